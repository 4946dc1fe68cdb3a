import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Entry } from '../../src/composefs/tree.ts';
import { limits } from '../../src/daemon/callers/limits.ts';
import type { MountOrder } from '../../src/daemon/mounts/mount-order.ts';
import { attributeBits } from '../../src/mount/attributes.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { mountSetattr } from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { isRoot, needs } from '../support/needs.ts';
import { makeImage, openRoom, sealedMemfd, until, type Room } from './mounting-room.ts';

const skip = needs('kernel', isRoot, 'root');
const error = (name: string): string => `io.cfsmountd.MountDelegation.${name}`;
const field = 'userNamespaceFileDescriptor';

/** A user namespace that shows the IDs 0 to 999 as 100000 and on, or maps none. */
async function userNamespace(mapped = true): Promise<OwnedFd> {
  const child = spawn('unshare', ['--user', 'sh', '-c', 'echo ready; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the user namespace', () => said.includes('ready'));
  const process = `/proc/${String(child.pid)}`;
  if (mapped) for (const map of ['uid_map', 'gid_map']) writeFileSync(`${process}/${map}`, '0 100000 1000');
  const fd = openFile(`${process}/ns/user`);
  child.stdin.end();
  await gone;
  onTestFinished(() => {
    fd.close();
  });
  return fd;
}

function mountMapped(room: Room, fd: number, changes: Partial<MountOrder['peer']> = {}): Promise<OwnedFd> {
  const peer = { ...room.peer(0), ...changes };
  return mountWith(room, { idMap: { kind: 'userNamespace', fd, field }, peer });
}

async function mountWith(room: Room, changes: Partial<MountOrder>, bytes = room.image): Promise<OwnedFd> {
  using memfd = sealedMemfd(bytes);
  const request = { kind: 'descriptor', fd: memfd.number, field: 'image.fileDescriptor' } as const;
  using image = await room.images.take(request, room.peer(), room.policy);
  return await room.mount(image, changes);
}

describe.skipIf(skip)('ID maps', () => {
  test('show the owners as the user namespace sees them', async () => {
    const room = openRoom();
    const namespace = await userNamespace();
    const owner = (mount: OwnedFd): number => statSync(join(descriptorPath(mount.number), 'small')).uid;
    using mapped = await mountMapped(room, namespace.number);
    expect(owner(mapped)).toBe(100_000);
    const peer = { ...room.peer(1000), initialNamespace: false, userNamespace: namespace };
    using own = await mountWith(room, { idMap: { kind: 'caller' }, peer });
    expect(owner(own)).toBe(100_000);
    // Of the initial user namespace there is nothing to map.
    using none = await mountWith(room, { idMap: { kind: 'caller' } });
    expect(owner(none)).toBe(0);
  });

  test('refuse what is no user namespace, or none of the caller', async () => {
    const room = openRoom();
    const namespace = await userNamespace();
    const unmapped = await userNamespace(false);
    using initial = openFile('/proc/self/ns/user');
    using other = openFile('/proc/self/ns/mnt');
    using file = openFile('/dev/null');
    const foreign = { caller: { uid: 1000, root: false } };
    const faults: [OwnedFd, Partial<MountOrder['peer']>, RegExp][] = [
      [initial, {}, /initial/],
      [other, {}, /not a user namespace/],
      [file, {}, /not a user namespace/],
      [namespace, foreign, /caller/],
      [unmapped, {}, /maps no IDs/],
    ];
    for (const [fd, changes, reason] of faults) {
      await expect(mountMapped(room, fd.number, changes)).rejects.toMatchObject({
        name: error('BadFileDescriptor'),
        parameters: { field, reason: expect.stringMatching(reason) as unknown },
      });
    }
    expect(room.handouts.totals.superblocks).toBe(0);
  });
});

describe.skipIf(skip)('stores of a request', () => {
  const directory = (fd: OwnedFd): { fd: number; field: string } => ({
    fd: fd.number,
    field: 'storeFileDescriptors[0]',
  });

  test("a directory that is one of the policy's stores counts as it; another is the client's own", async () => {
    const room = openRoom();
    using store = openFile(room.store.path, { directory: true, pathOnly: true });
    const own = join(room.directory, 'own');
    mkdirSync(own);
    using mine = openFile(own, { directory: true });
    const resolve = (fd: OwnedFd): ReturnType<Room['stores']['resolve']> =>
      room.stores.resolve({ names: [], directories: [directory(fd)] }, room.peer(), room.policy);
    expect(await resolve(store)).toMatchObject({ names: ['store'], directories: [] });
    expect(await resolve(mine)).toMatchObject({ names: undefined, directories: [{ fd: mine.number }] });
    using file = openFile('/proc/self/status');
    await expect(resolve(file)).rejects.toMatchObject({ name: error('BadFileDescriptor') });
    expect(await room.stores.resolve({ names: [], directories: [] }, room.peer(), room.policy)).toMatchObject(
      {
        names: undefined,
      },
    );
  });

  test("a client's directory is a layer, and its files are looked for", async () => {
    const room = openRoom();
    const own = join(room.directory, 'own');
    mkdirSync(own);
    using mine = openFile(own, { directory: true });
    const request = { names: [], directories: [directory(mine)] };
    using stores = await room.stores.resolve(request, room.peer(), room.policy);
    // Never in earnest: without fs-verity the decision would not let clients' stores through.
    const constraints = { ...room.constraints, stores: [], verity: 'never' as const };
    await expect(mountWith(room, { stores, constraints })).rejects.toMatchObject({
      name: error('ObjectsMissing'),
      parameters: { count: 1 },
    });
    makeImage(own);
    using mount = await mountWith(room, { stores, constraints });
    expect(readFileSync(join(descriptorPath(mount.number), 'big')).length).toBeGreaterThan(1000);
    // It is not kept, and its attributes are locked as those of clones are.
    expect(() => {
      mountSetattr(mount.number, { clear: attributeBits(['nodev']) });
    }).toThrow(expect.objectContaining({ syscall: 'mount_setattr', code: 'EPERM' }));
  });

  test('verity require on a kernel without it is refused, not weakened', async () => {
    const room = openRoom();
    const constraints = { ...room.constraints, verity: 'require' as const };
    const mounting = mountWith(room, { constraints });
    if (room.features.fsVerity) {
      await expect(mounting).rejects.toMatchObject({ name: error('ObjectsMissing') });
    } else {
      await expect(mounting).rejects.toThrow(/fs-verity; stores with verity "trusted"/);
    }
    expect(room.handouts.totals.superblocks).toBe(0);
  });

  test('a trusted store that others can write, and one that is not there', async () => {
    const room = openRoom();
    chmodSync(room.store.path, 0o777);
    await expect(mountWith(room, {})).rejects.toThrow(/can be written by others/);
    const stores = [{ ...room.store, name: 'absent', path: join(room.directory, 'absent') }];
    await expect(mountWith(room, { constraints: { ...room.constraints, stores } })).rejects.toMatchObject({
      name: error('StoreNotFound'),
      parameters: { name: 'absent' },
    });
  });
});

describe.skipIf(skip)('what a rule does not let in', () => {
  test('device nodes', async () => {
    const room = openRoom();
    const node: Entry = {
      ...{ type: 'block', rdev: 0x801, nlink: 1, mode: 0o600, uid: 0, gid: 0, xattrs: [] },
      mtime: { seconds: 0n, nanoseconds: 0 },
    };
    const bytes = makeImage(room.store.path, { disk: node });
    await expect(mountWith(room, {}, bytes)).rejects.toMatchObject({
      name: error('IncompatibleImage'),
      parameters: { reason: expect.stringMatching(/decision: devices/) as unknown },
    });
    using mount = await mountWith(room, { constraints: { ...room.constraints, devices: true } }, bytes);
    expect(statSync(join(descriptorPath(mount.number), 'disk')).isBlockDevice()).toBe(true);
  });

  test('more superblocks than a user may hold; they count until they are gone', async () => {
    const room = openRoom();
    writeFileSync(join(room.imageDirectory, 'app.cfs'), room.image);
    using image = await room.images.take({ kind: 'name', name: 'app' }, room.peer(), room.policy);
    const mounts: OwnedFd[] = [];
    const full = async (): Promise<void> => {
      for (;;) mounts.push(await room.mount(image));
    };
    await expect(full()).rejects.toMatchObject({
      name: error('LimitExceeded'),
      parameters: { limit: 'superblocksPerUser' },
    });
    expect(mounts.length).toBe(limits.superblocksPerUser);
    using others = await room.mount(image, { peer: room.peer(2000) });
    expect(others.isOpen).toBe(true);
    for (const mount of mounts) mount.close();
    await until('the superblocks to go', () => room.handouts.totals.superblocks === 1);
    using again = await room.mount(image);
    expect(again.isOpen).toBe(true);
  });
});
