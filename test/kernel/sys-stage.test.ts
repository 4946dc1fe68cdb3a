import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { digestFromBytes } from '../../src/base/digest.ts';
import { attributeBits } from '../../src/mount/attributes.ts';
import { planMount } from '../../src/mount/plan.ts';
import type { PlanInput } from '../../src/mount/plan.ts';
import { mountOnStage } from '../../src/sys/execute.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { makeNamespaces } from '../../src/sys/idle-child.ts';
import * as calls from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { openPidfd } from '../../src/sys/peer.ts';
import { probeFeatures } from '../../src/sys/probe.ts';
import { Stage } from '../../src/sys/stage.ts';
import type { StageHome } from '../../src/sys/stage.ts';
import { isRoot, needs } from '../support/needs.ts';
import { erofsImage, hasProgram, mountTable, openDescriptors, scratchDirectory } from './sys-room.ts';

const skip = needs(
  'kernel',
  isRoot && hasProgram('mkfs.erofs') && hasProgram('python3'),
  'root, mkfs.erofs, python3',
);
const digest = digestFromBytes(new Uint8Array(32).fill(7));
const receiver = fileURLToPath(new URL('sys-receiver.py', import.meta.url));

function tmpfs(attributes: number): OwnedFd {
  using context = calls.fsopen('tmpfs');
  calls.fsconfigCreate(context.number);
  return calls.fsmount(context.number, attributes);
}

describe.skipIf(skip)('a stage', () => {
  test.each<StageHome>(['host', 'stage', 'locked'])(
    'locks, clones and sweeps at home in "%s", and leaves nothing',
    (home) => {
      const table = mountTable();
      const descriptors = openDescriptors();
      const directory = process.cwd();
      {
        using stage = Stage.open(home);
        expect(mountTable() === table).toBe(home === 'host');
        const during = openDescriptors();
        for (let round = 0; round < 20; round++) {
          using mount = tmpfs(attributeBits(['nodev', 'nosuid']));
          using locked = stage.lock(mount);
          using clone = stage.clone(locked.number);
          for (const each of [locked, clone]) {
            expect(() => {
              calls.mountSetattr(each.number, { clear: attributeBits(['nodev']) });
            }).toThrow(expect.objectContaining({ syscall: 'mount_setattr', code: 'EPERM' }));
            calls.mountSetattr(each.number, { set: attributeBits(['noexec']) });
          }
          if (round % 3 === 0) stage.sweep();
        }
        stage.sweep();
        expect(openDescriptors()).toBe(during);
      }
      expect(mountTable()).toBe(table);
      expect(process.cwd()).toBe(directory);
      expect(openDescriptors()).toBe(descriptors);
    },
  );

  test('survives a mount that cannot be attached', () => {
    using stage = Stage.open();
    const descriptors = openDescriptors();
    using folder = openFile('/', { directory: true });
    expect(() => stage.lock(folder)).toThrow(expect.objectContaining({ syscall: 'move_mount' }));
    using mount = tmpfs(0);
    stage.lock(mount).close();
    folder.close();
    mount.close();
    expect(openDescriptors()).toBe(descriptors);
  });

  test('sees what the host mounts later', () => {
    const directory = scratchDirectory();
    using stage = Stage.open();
    // Only where the host's mounts are shared do they propagate.
    const shared = / \/ \/ .* shared:/.test(mountTable());
    using later = tmpfs(0);
    calls.moveMount(later.number, directory);
    try {
      writeFileSync(join(directory, 'new'), '');
      expect(stage.inside(() => existsSync(join(directory, 'new')))).toBe(shared);
    } finally {
      calls.umountDetach(directory);
    }
  });
});

describe.skipIf(skip)('mounts of another mount namespace', () => {
  test('are cloned there, by a pidfd of a process in it', async () => {
    const directory = scratchDirectory();
    // The child makes a mount that this process does not see, and passes its folder as descriptor 0 of /proc.
    const script = `mount -t tmpfs none ${directory} && echo inside > ${directory}/file && exec 5<${directory} && echo ready && exec cat`;
    const child = spawn('unshare', ['--user', '--map-root-user', '--mount', 'sh', '-c', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve));
      if (child.pid === undefined) throw new Error('no child');
      using stage = Stage.open();
      using pidfd = openPidfd(child.pid);
      using folder = openFile(`/proc/${child.pid}/fd/5`, { directory: true });
      expect(() => calls.cloneTree(folder.number)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
      using clone = stage.cloneFrom(pidfd.number, folder.number);
      expect(readFileSync(`${descriptorPath(clone.number)}/file`, 'utf8')).toBe('inside\n');
      expect(() => stage.cloneFrom(folder.number, folder.number)).toThrow(
        expect.objectContaining({ syscall: 'setns' }),
      );
      expect(existsSync(join(directory, 'file'))).toBe(false);
    } finally {
      child.stdin.end();
      await ended;
    }
  });
});

describe.skipIf(skip)('plans on this kernel', () => {
  function mount(
    input: Omit<PlanInput, 'digest' | 'imageFd'>,
    image: string,
  ): { mount: OwnedFd; stage: Stage } {
    using stage = Stage.open();
    const features = probeFeatures({
      scratchDirectory: scratchDirectory(),
      image: readFileSync(image),
      stage,
    });
    using file = openFile(image);
    const plan = planMount({ ...input, digest, imageFd: file.number }, features);
    const made = mountOnStage(plan, stage);
    stage.sweep();
    return { mount: made, stage };
  }

  test('EROFS from a file, with the attributes asked for', () => {
    const directory = scratchDirectory();
    erofsImage(directory);
    const table = mountTable();
    const descriptors = openDescriptors();
    const { mount: made } = mount(
      { fileSystem: 'erofs', stores: [], verity: 'never', attributes: ['ro', 'nodev'], lock: true },
      join(directory, 'image.erofs'),
    );
    using mounted = made;
    expect(readFileSync(`${descriptorPath(mounted.number)}/hello`, 'utf8')).toBe('hello\n');
    mounted.close();
    expect(mountTable()).toBe(table);
    expect(openDescriptors()).toBe(descriptors);
  });

  test('an ID-mapped composefs without stores shows mapped owners', () => {
    const directory = scratchDirectory();
    erofsImage(directory);
    const namespaces = makeNamespaces();
    namespaces.mount.close();
    using user = namespaces.user;
    using mounted = mount(
      {
        fileSystem: 'composefs',
        stores: [],
        verity: 'require',
        attributes: ['ro', 'nodev', 'nosuid'],
        userNamespaceFd: user.number,
        lock: true,
      },
      join(directory, 'image.erofs'),
    ).mount;
    expect(statSync(`${descriptorPath(mounted.number)}/hello`).uid).toBe(0);
  });

  test('a receiver in its own user namespace clears no attribute', async () => {
    const directory = scratchDirectory();
    erofsImage(directory);
    using mounted = mount(
      {
        fileSystem: 'composefs',
        stores: [],
        verity: 'ifPresent',
        attributes: ['ro', 'nodev', 'nosuid', 'noexec'],
        lock: true,
      },
      join(directory, 'image.erofs'),
    ).mount;
    mkdirSync(join(directory, 'at'));
    const child = spawn(
      'unshare',
      ['--user', '--map-root-user', '--mount', 'python3', receiver, join(directory, 'at')],
      {
        stdio: ['ignore', 'pipe', 'inherit', mounted.number],
      },
    );
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(code).toBe(0);
    const said = Buffer.concat(chunks).toString().trim().split('\n');
    expect(said).toHaveLength(17);
    expect(said.slice(0, -1).every((line) => line.endsWith(' EPERM'))).toBe(true);
    expect(said.at(-1)).toBe('hello');
  });
});
