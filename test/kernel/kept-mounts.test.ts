import { execFileSync, spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TakenImage } from '../../src/daemon/images/images.ts';
import type { KeptMounts } from '../../src/daemon/mounts/kept-mounts.ts';
import { limits } from '../../src/daemon/callers/limits.ts';
import type { MountOrder } from '../../src/daemon/mounts/mount-order.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { fstat, openFile } from '../../src/sys/file.ts';
import { makeNamespaces } from '../../src/sys/idle-child.ts';
import { mountSetattr } from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { openPidfd } from '../../src/sys/peer.ts';
import { isRoot, needs } from '../support/needs.ts';
import { bigContent, makeImage, openRoom, sealedMemfd, until, type Room } from './mounting-room.ts';

const skip = needs('kernel', isRoot, 'root');
const hostNamespace = readlinkSync('/proc/self/ns/mnt');

interface KeepingRoom extends Room {
  readonly kept: KeptMounts;
}

/** A room in which mounts are kept, with its image installed as `app`; undefined where this kernel has no clones. */
function openKeepingRoom(): KeepingRoom | undefined {
  const room = openRoom({}, true);
  const { kept } = room;
  if (needs('kernel', kept !== undefined, 'clones of detached mounts (Linux 6.15)')) return undefined;
  writeFileSync(join(room.imageDirectory, 'app.cfs'), room.image);
  return kept === undefined ? undefined : { ...room, kept };
}

async function mountName(room: Room, changes: Partial<MountOrder> = {}, name = 'app'): Promise<OwnedFd> {
  const peer = changes.peer ?? room.peer();
  using image = await room.images.take({ kind: 'name', name }, peer, room.policy);
  return closedLater(await room.mount(image, { ...changes, peer }));
}

async function mountMemfd(room: Room, changes: Partial<MountOrder> = {}): Promise<OwnedFd> {
  const peer = changes.peer ?? room.peer();
  using memfd = sealedMemfd(room.image);
  const request = { kind: 'descriptor', fd: memfd.number, field: 'image.fileDescriptor' } as const;
  using image: TakenImage = await room.images.take(request, peer, room.policy);
  return closedLater(await room.mount(image, { ...changes, peer }));
}

function closedLater(mount: OwnedFd): OwnedFd {
  onTestFinished(() => {
    mount.close();
  });
  return mount;
}

/** A peer in a user namespace with that mapping of users and groups, until the end of the test. */
async function startPeer(room: Room, map: string): Promise<MountOrder['peer']> {
  const child = spawn('unshare', ['--user', 'sh', '-c', 'echo ready; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the user namespace', () => said.includes('ready'));
  const pid = child.pid ?? -1;
  for (const name of ['uid_map', 'gid_map']) writeFileSync(`/proc/${pid}/${name}`, map);
  const [userNamespace, pidfd] = [openFile(`/proc/${pid}/ns/user`), openPidfd(pid)];
  onTestFinished(async () => {
    userNamespace.close();
    pidfd.close();
    child.stdin.end();
    await gone;
  });
  return { ...room.peer(), initialNamespace: false, pid, pidfd, userNamespace };
}

/** Which superblock a mount is of. */
function superblock(mount: OwnedFd): bigint {
  return fstat(mount.number).dev;
}

/** Attributes that the kernel shows of a mount (fstatvfs(3)). */
function shown(mount: OwnedFd): string {
  return execFileSync('python3', ['-c', showFlags], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit', mount.number],
  }).trim();
}

const showFlags = `
import os
bits = os.fstatvfs(3).f_flag
names = dict(ro=1, nosuid=2, nodev=4, noexec=8, noatime=1024, relatime=4096)
print(*[name for name, bit in names.items() if bits & bit])
`;

/** MOUNT_ATTR_* by name. */
const bits = { ro: 0x1, nosuid: 0x2, nodev: 0x4, noexec: 0x8 };

const withAttributes = (
  room: Room,
  ...attributes: MountOrder['constraints']['attributes']
): Partial<MountOrder> => {
  return { constraints: { ...room.constraints, attributes: ['ro', ...attributes] } };
};
const sharedWithEveryone = (room: Room): Partial<MountOrder> => {
  return { constraints: { ...room.constraints, share: 'everyone' } };
};

describe.skipIf(skip)('mounts of one image', () => {
  test('are clones of one superblock, which counts once', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const [one, two] = [await mountName(room), await mountName(room)];
    expect(superblock(two)).toBe(superblock(one));
    expect(readFileSync(join(descriptorPath(two.number), 'big'), 'utf8')).toBe(bigContent);
    expect(room.handouts.totals.superblocks).toBe(1);
    expect(room.handouts.live()).toHaveLength(1);
    expect(room.kept.list().map(({ layer, user }) => ({ layer, user }))).toEqual([
      { layer: true, user: undefined },
      { layer: false, user: 1000 },
    ]);
  });

  test('have each its own attributes, locked', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const plain = await mountName(room, withAttributes(room));
    const strict = await mountName(room, withAttributes(room, 'nosuid', 'nodev', 'noexec', 'noatime'));
    const middle = await mountName(room, withAttributes(room, 'nodev'));
    expect([superblock(strict), superblock(middle)]).toEqual([superblock(plain), superblock(plain)]);
    expect(shown(plain)).toBe('ro relatime');
    expect(shown(strict)).toBe('ro nosuid nodev noexec noatime');
    expect(shown(middle)).toBe('ro nodev relatime');
    for (const clear of Object.values(bits)) {
      expect(() => {
        mountSetattr(strict.number, { clear });
      }).toThrow(/EPERM/);
    }
    expect(() => {
      mountSetattr(middle.number, { clear: bits.nodev });
    }).toThrow(/EPERM/);
    expect(() => {
      mountSetattr(middle.number, { clear: bits.ro });
    }).toThrow(/EPERM/);
  });

  test('are shared among one user, and with others only where the rule says so', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const [mine, yours] = [await mountName(room), await mountName(room, { peer: room.peer(2000) })];
    expect(superblock(yours)).not.toBe(superblock(mine));
    const everyone = sharedWithEveryone(room);
    const [one, other] = [
      await mountName(room, everyone),
      await mountName(room, { ...everyone, peer: room.peer(2000) }),
    ];
    expect(superblock(other)).toBe(superblock(one));
    expect(superblock(one)).not.toBe(superblock(mine));
    // One EROFS layer below all of them.
    expect(room.kept.list().filter(({ layer }) => layer)).toHaveLength(1);
  });

  test('are not shared between root and root of a container', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const root = room.peer(0);
    const contained = { ...root, caller: { uid: 0, root: false } };
    const [one, other] = [await mountName(room, { peer: root }), await mountName(room, { peer: contained })];
    expect(superblock(other)).not.toBe(superblock(one));
  });

  test('from a memfd stay the business of the user who brought it, whatever the rule says', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const everyone = sharedWithEveryone(room);
    const [mine, again] = [await mountMemfd(room, everyone), await mountMemfd(room, everyone)];
    const yours = await mountMemfd(room, { ...everyone, peer: room.peer(2000) });
    const installed = await mountName(room, everyone);
    expect(superblock(again)).toBe(superblock(mine));
    expect(new Set([mine, yours, installed].map(superblock)).size).toBe(3);
    await until('the copy that was not needed to go', () => {
      return room.handouts.totals.copiedBytes === 2 * room.image.length;
    });
  });

  test('with another ID mapping have another overlay over the same layer; mappings are alike by their contents', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const plain = await mountName(room);
    const mapped = [];
    for (const map of ['0 100000 65536', '0 100000 65536', '0 200000 65536']) {
      const peer = await startPeer(room, map);
      mapped.push(await mountName(room, { peer, idMap: { kind: 'caller' } }));
    }
    const [first, same, different] = mapped as [OwnedFd, OwnedFd, OwnedFd];
    const owner = (mount: OwnedFd): number => statSync(join(descriptorPath(mount.number), 'big')).uid;
    expect(mapped.map(owner)).toEqual([100_000, 100_000, 200_000]);
    expect(superblock(same)).toBe(superblock(first));
    expect(new Set([plain, first, different].map(superblock)).size).toBe(3);
    expect(room.kept.list().filter(({ layer }) => layer)).toHaveLength(1);
  });

  test('with a mapping that nobody shows are made anew', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const { user, mount } = makeNamespaces();
    mount.close();
    onTestFinished(() => {
      user.close();
    });
    const idMap = { kind: 'userNamespace', fd: user.number, field: 'userNamespaceFileDescriptor' } as const;
    const peer = { ...room.peer(0), caller: { uid: 0, root: true } };
    const [one, other] = [await mountName(room, { peer, idMap }), await mountName(room, { peer, idMap })];
    expect(superblock(other)).not.toBe(superblock(one));
  });
});

describe.skipIf(skip)('what is kept', () => {
  test('goes when it is dropped; clones live on, and the next mount is made anew', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const held = await mountName(room);
    expect(room.kept.drop(() => true)).toBe(2);
    expect(room.kept.list()).toEqual([]);
    expect(readFileSync(join(descriptorPath(held.number), 'big'), 'utf8')).toBe(bigContent);
    const next = await mountName(room);
    expect(superblock(next)).not.toBe(superblock(held));
    expect(room.handouts.totals.superblocks).toBe(2);
    next.close();
    held.close();
    room.kept.drop(() => true);
    await until('the superblocks to go', () => room.handouts.totals.superblocks === 0);
  });

  test('goes when its store is unmounted, so that the filesystem goes too', async () => {
    const host = sharedFolder();
    const room = openKeepingRoom();
    if (room === undefined) return;
    const path = join(host, 'store');
    // This thread is in a namespace that follows the one in which the daemon began, where administrators mount.
    const there = [`--mount=/proc/${process.pid}/task/${threadOfHost()}/ns/mnt`, '--'];
    mkdirSync(path);
    execFileSync('nsenter', [...there, 'mount', '-t', 'tmpfs', '-o', 'mode=755', 'cfs-store', path]);
    makeImage(path);
    const store = { ...room.store, name: 'mounted', path };
    const constraints = { ...room.constraints, stores: [store] };
    (await mountName(room, { constraints })).close();
    expect(room.kept.list()).toHaveLength(2);
    execFileSync('nsenter', [...there, 'umount', path]);
    await until('the kept mount to go', () => room.kept.list().every(({ layer }) => layer));
    await until('the superblock to go', () => room.handouts.totals.superblocks === 0);
  });

  test('goes when its image is replaced', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    (await mountName(room)).close();
    execFileSync('mv', [join(room.imageDirectory, 'app.cfs'), join(room.imageDirectory, 'old')]);
    await until('everything of it to go', () => room.kept.list().length === 0);
  });

  test('goes when memory is short', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    (await mountName(room)).close();
    room.memory.short = true;
    await until('everything to go', () => room.kept.list().length === 0);
  });

  test('is given up before its user is refused for a lack of superblocks', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    (await mountName(room)).close();
    const shares: unknown[] = [];
    const full = (): void => {
      for (;;) shares.push(room.handouts.reserve(room.peer(), 0));
    };
    expect(full).toThrow(/LimitExceeded/);
    expect(shares).toHaveLength(limits.superblocksPerUser);
    expect(room.kept.list().every(({ user }) => user !== 1000)).toBe(true);
  });

  test('has a bound for each user, the one used longest ago going first', async () => {
    const room = openKeepingRoom();
    if (room === undefined) return;
    const others = await mountName(room, { peer: room.peer(2000) });
    for (let index = 0; index <= limits.mountsKeptPerUser; index++) {
      const stores = [{ ...room.store, path: makeStore(room, index) }];
      (await mountName(room, { constraints: { ...room.constraints, stores } })).close();
    }
    expect(room.kept.list().filter(({ user }) => user === 1000)).toHaveLength(limits.mountsKeptPerUser);
    const again = await mountName(room, { peer: room.peer(2000) });
    expect(superblock(again)).toBe(superblock(others));
  });
});

function makeStore(room: Room, index: number): string {
  const path = join(room.directory, `store-${index}`);
  mkdirSync(path);
  makeImage(path);
  return path;
}

/** A folder in which what is mounted is seen by the namespaces that are made from here on. */
function sharedFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'cfs-shared-'));
  execFileSync('mount', ['--bind', path, path]);
  execFileSync('mount', ['--make-shared', path]);
  const namespace = `/proc/${process.pid}/task/${threadOfHost()}/ns/mnt`;
  onTestFinished(() => {
    execFileSync('nsenter', [`--mount=${namespace}`, '--', 'umount', '--lazy', path]);
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** A thread that is still in the mount namespace in which the process began, as Node's own are. */
function threadOfHost(): string {
  const thread = readdirSync('/proc/self/task').find((id) => {
    return readlinkSync(`/proc/self/task/${id}/ns/mnt`) === hostNamespace;
  });
  if (thread === undefined) throw new Error('no thread is where the process began');
  return thread;
}
