import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TakenImage } from '../../src/daemon/images/images.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { enableVerity } from '../../src/sys/verity.ts';
import { bigContent, makeImage, openRoom, until, type Room } from '../kernel/mounting-room.ts';
import { isRoot, needs } from '../support/needs.ts';

// Skipped where root has no fs-verity: then openRoom would find it missing as well.
const skip = needs('kernel', isRoot, 'root');
const error = (name: string): string => `io.cfsmountd.MountDelegation.${name}`;

function enable(path: string): void {
  using file = openFile(path);
  expect(enableVerity(file.number)).toBe(true);
}

function enableBelow(folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name);
    if (statSync(path).isFile()) enable(path);
  }
}

function clientFile(room: Room): OwnedFd {
  const path = join(room.directory, 'client.cfs');
  writeFileSync(path, room.image);
  enable(path);
  const file = openFile(path);
  onTestFinished(() => {
    file.close();
  });
  return file;
}

/** Asks for a lease by a descriptor of the same open file, as its owner may (fcntl(2)); whether it was granted. */
function lease(file: OwnedFd, kind: 'F_WRLCK' | 'F_UNLCK'): boolean {
  const program = `import fcntl; fcntl.fcntl(3, fcntl.F_SETLEASE, fcntl.${kind})`;
  const asked = spawnSync('python3', ['-c', program], {
    stdio: ['ignore', 'ignore', 'pipe', file.number],
    encoding: 'utf8',
  });
  if (asked.status !== 0) expect(asked.stderr).toMatch(/BlockingIOError/);
  return asked.status === 0;
}

describe.skipIf(skip)('with fs-verity', () => {
  test("a client's file is measured by the kernel and mounted on a thread", async () => {
    const room = openRoom();
    const file = clientFile(room);
    enableBelow(room.store.path);
    const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
    {
      using image = await room.images.take(request, room.peer(), room.policy);
      expect(image).toMatchObject({ kind: 'verity', digest: room.digest });
      const store = { ...room.store, verity: 'require' as const };
      const constraints = { ...room.constraints, stores: [store], verity: 'require' as const };
      using mount = await room.mount(image, { constraints });
      expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
      expect(room.handouts.totals).toMatchObject({ superblocks: 1, copiedBytes: 0 });
    }
    await until('the superblock to go', () => room.handouts.totals.superblocks === 0);
    await until('the descriptors to be closed', () => room.closing.backlog(1000) === 0);
    expect(room.bugs).toEqual([]);
  });

  test("a client's lease on its file keeps nobody waiting, and cannot be had once the file is taken", async () => {
    const room = openRoom();
    using file = clientFile(room);
    const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
    const take = async (): Promise<TakenImage> => room.images.take(request, room.peer(), room.policy);
    expect(lease(file, 'F_WRLCK')).toBe(true);
    await expect(take()).rejects.toMatchObject({
      name: error('ImageNotImmutable'),
      parameters: { reason: expect.stringMatching(/holds a lease/) as unknown },
    });
    expect(lease(file, 'F_UNLCK')).toBe(true);
    using image = await take();
    expect(lease(file, 'F_WRLCK')).toBe(false);
    using mount = await room.mount(image, {
      constraints: { ...room.constraints, stores: [room.store], verity: 'never' },
    });
    expect(readFileSync(join(descriptorPath(mount.number), 'small'), 'utf8')).toBe('small\n');
    expect(room.bugs).toEqual([]);
  });

  test("a client's directory as a store: its objects need fs-verity", async () => {
    const room = openRoom();
    const file = clientFile(room);
    const own = join(room.directory, 'own');
    mkdirSync(own);
    makeImage(own);
    using directory = openFile(own, { directory: true });
    const directories = [{ fd: directory.number, field: 'storeFileDescriptors[0]' }];
    const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
    using image = await room.images.take(request, room.peer(), room.policy);
    using stores = await room.stores.resolve({ names: [], directories }, room.peer(), room.policy);
    const constraints = { ...room.constraints, stores: [], clientStores: true, verity: 'require' as const };
    await expect(room.mount(image, { constraints, stores })).rejects.toMatchObject({
      name: error('ObjectsMissing'),
      parameters: { count: 1, reason: expect.stringMatching(/without fs-verity/) as unknown },
    });
    enableBelow(own);
    using mount = await room.mount(image, { constraints, stores });
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
  });
});
