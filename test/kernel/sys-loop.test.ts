import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { digestFromBytes } from '../../src/base/digest.ts';
import { mountImage } from '../../src/daemon/threads/mount-image.ts';
import { planMount, type PlanInput } from '../../src/mount/plan.ts';
import { openFile, writeAll } from '../../src/sys/file.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { attachLoop } from '../../src/sys/loop.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { probeFeatures } from '../../src/sys/probe.ts';
import { Stage } from '../../src/sys/stage.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { erofsImage, openDescriptors, scratchDirectory } from './sys-room.ts';

const skip = needs('kernel', isRoot && existsSync('/dev/loop-control'), 'root and loop devices');

const input: Omit<PlanInput, 'imageFd'> = {
  fileSystem: 'erofs',
  digest: digestFromBytes(new Uint8Array(32)),
  stores: [],
  verity: 'never',
  attributes: ['ro', 'nodev'],
  lock: true,
};

/** Waits until no loop device shows a file below `directory`: the last mount goes some time after its unmounting. */
async function untilFreed(directory: string): Promise<void> {
  for (const end = Date.now() + 30_000; loopFiles().some((path) => path.startsWith(directory));) {
    if (Date.now() > end) throw new Error(`a loop device is left: ${loopFiles().join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe.skipIf(skip)('loop devices', () => {
  test('show a file read-only, and go with the descriptor', async () => {
    const directory = scratchDirectory();
    const path = join(directory, 'image');
    writeFileSync(path, Buffer.alloc(8192, 'x'));
    const descriptors = openDescriptors();
    {
      using file = openFile(path);
      using loop = attachLoop(file.number);
      file.close();
      expect(loopFiles()).toContain(path);
      expect(readFileSync(descriptorPath(loop.number), 'latin1')).toBe('x'.repeat(8192));
      const device = statSync(descriptorPath(loop.number));
      expect(device.isBlockDevice()).toBe(true);
      using writable = openFile(descriptorPath(loop.number), { access: 'read-write' });
      expect(() => {
        writeAll(writable.number, Buffer.from('y'));
      }).toThrow(expect.objectContaining({ code: 'EPERM' }));
    }
    await untilFreed(directory);
    expect(openDescriptors()).toBe(descriptors);
  });

  test('show a part of a file alone', async () => {
    const directory = scratchDirectory();
    const path = join(directory, 'disk');
    writeFileSync(path, Buffer.concat(['a', 'b', 'c'].map((letter) => Buffer.alloc(4096, letter))));
    {
      using file = openFile(path);
      using loop = attachLoop(file.number, { offset: 4096, bytes: 4096 });
      expect(readFileSync(descriptorPath(loop.number), 'latin1')).toBe('b'.repeat(4096));
      for (const range of [
        { offset: 0, bytes: 0 },
        { offset: -512, bytes: 512 },
        { offset: 0, bytes: 100 },
        { offset: 100, bytes: 512 },
      ])
        expect(() => attachLoop(file.number, range)).toThrow(RangeError);
    }
    await untilFreed(directory);
  });

  test('are not kept by what cannot be attached', () => {
    using folder = openFile('/', { directory: true });
    const descriptors = openDescriptors();
    expect(() => attachLoop(folder.number)).toThrow(expect.objectContaining({ syscall: 'ioctl' }));
    expect(openDescriptors()).toBe(descriptors);
  });

  test('are had at once by several processes that all want the next free one', async () => {
    const directory = scratchDirectory();
    writeFileSync(join(directory, 'image'), Buffer.alloc(4096));
    const modules = new URL('../../dist/sys/', import.meta.url).href;
    const script = `
      import { openFile } from '${modules}file.js';
      import { attachLoop } from '${modules}loop.js';
      const file = openFile('${join(directory, 'image')}');
      for (let round = 0; round < 50; round++) attachLoop(file.number).close();`;
    const codes = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise((resolve) => {
            spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' }).on(
              'close',
              resolve,
            );
          }),
      ),
    );
    expect(codes).toEqual([0, 0, 0]);
    await untilFreed(directory);
  });
});

describe.skipIf(skip)('EROFS by loop device', () => {
  function mount(image: string, stage: Stage, more: Partial<PlanInput>, straight: boolean): OwnedFd {
    const scratch = scratchDirectory();
    const found = probeFeatures({ scratchDirectory: scratch, image: readFileSync(image), stage });
    expect(found.loopDevices).toBe(true);
    const features = { ...found, erofsFromFile: straight };
    using file = openFile(image);
    return mountImage({ ...input, ...more, imageFd: file.number }, features, stage);
  }

  test.each(['erofs', 'composefs'] as const)(
    'mounts %s, and the device goes with the mount',
    async (fileSystem) => {
      const directory = scratchDirectory();
      erofsImage(directory);
      using stage = Stage.open();
      const descriptors = openDescriptors();
      {
        using mounted = mount(join(directory, 'image.erofs'), stage, { fileSystem }, false);
        expect(readFileSync(`${descriptorPath(mounted.number)}/hello`, 'utf8')).toBe('hello\n');
        expect(loopFiles()).toContain(join(directory, 'image.erofs'));
        stage.sweep();
        expect(openDescriptors()).toBe(descriptors + 1);
      }
      await untilFreed(directory);
    },
  );

  test('an image that the kernel refuses leaves no device', async () => {
    const directory = scratchDirectory();
    const image = join(directory, 'broken');
    erofsImage(directory);
    writeFileSync(image, Buffer.alloc(4096));
    using stage = Stage.open();
    const features = probeFeatures({
      scratchDirectory: directory,
      image: readFileSync(join(directory, 'image.erofs')),
      stage,
    });
    const descriptors = openDescriptors();
    using file = openFile(image);
    expect(() =>
      mountImage({ ...input, imageFd: file.number }, { ...features, erofsFromFile: false }, stage),
    ).toThrow(expect.objectContaining({ syscall: 'fsconfig' }));
    file.close();
    stage.sweep();
    expect(openDescriptors()).toBe(descriptors);
    await untilFreed(directory);
  });

  test('where the image lies on a filesystem from which EROFS mounts no file', async () => {
    const directory = mkdtempSync('/dev/shm/cfs-loop-');
    onTestFinished(() => {
      rmSync(directory, { recursive: true, force: true });
    });
    erofsImage(directory);
    const image = join(directory, 'image.erofs');
    using stage = Stage.open();
    using mounted = mount(image, stage, { fileSystem: 'composefs' }, true);
    expect(readFileSync(`${descriptorPath(mounted.number)}/hello`, 'utf8')).toBe('hello\n');
    expect(loopFiles()).toContain(image);
    mounted.close();
    stage.sweep();
    await untilFreed(directory);
  });

  test('the plan asks for nothing that is not there', () => {
    using stage = Stage.open();
    const directory = scratchDirectory();
    const features = probeFeatures({ scratchDirectory: directory, image: erofsImage(directory), stage });
    const without = { ...features, erofsFromFile: false, loopDevices: false };
    expect(() => planMount({ ...input, imageFd: 0 }, without)).toThrow('loop devices');
  });
});
