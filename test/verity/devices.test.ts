import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TakenImage } from '../../src/daemon/images/images.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { enableVerity } from '../../src/sys/verity.ts';
import {
  bigContent,
  makeImage,
  openRoom,
  sealedMemfd,
  startHeldFuse,
  until,
  type Room,
} from '../kernel/mounting-room.ts';
import { isRoot, needs } from '../support/needs.ts';

// A filesystem that the kernel serves, with real fs-verity, on a device that somebody controls: a removable disk, a loop
// device over a file of a FUSE server. Its owner can let it stall or fail.

const skip = needs('kernel', isRoot, 'root');
const error = (name: string): string => `io.cfsmountd.MountDelegation.${name}`;
const owner = 1000;
const other = 2000;

function run(program: string, ...parameters: readonly string[]): string {
  const { status, stdout, stderr, error: failure } = spawnSync(program, parameters, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${parameters.join(' ')}: ${failure?.message ?? stderr}`);
  return stdout.trim();
}

/** Disks and what is on them. To be made before the room that uses them: they go with the test, once it is closed. */
class Disks {
  readonly #directory = mkdtempSync(join(tmpdir(), 'cfs-disks-'));
  readonly #undo: (() => void)[] = [];

  constructor() {
    onTestFinished(async () => {
      for (const undo of this.#undo.reverse()) {
        let fault: unknown;
        await until('nothing holds the disk', () => {
          try {
            undo();
            return true;
          } catch (thrown) {
            fault = thrown;
            return false;
          }
        }).catch(() => {
          throw fault;
        });
      }
      rmSync(this.#directory, { recursive: true });
    });
  }

  /** A disk's image: ext4 with `image.cfs` and its objects in `store`, all with fs-verity. */
  make(): string {
    const path = join(this.#directory, 'disk');
    writeFileSync(path, '');
    run('truncate', '--size=32M', path);
    run('mkfs.ext4', '-q', '-O', 'verity', '-b', '4096', path);
    const at = join(this.#directory, 'made');
    mkdirSync(at);
    run('mount', '-o', 'loop', path, at);
    mkdirSync(join(at, 'store'));
    writeFileSync(join(at, 'image.cfs'), makeImage(join(at, 'store')));
    for (const name of readdirSync(at, { recursive: true, encoding: 'utf8' })) {
      if (!statSync(join(at, name)).isFile()) continue;
      using file = openFile(join(at, name));
      expect(enableVerity(file.number)).toBe(true);
    }
    run('umount', at);
    return path;
  }

  /** A loop device that shows the file at `path`. */
  loop(path: string): string {
    const device = run('losetup', '--find', '--show', '--read-only', path);
    this.#undo.push(() => run('losetup', '--detach', device));
    return device;
  }

  /** A device by device-mapper over a disk's image. */
  map(path: string): MappedDisk {
    const disk = new MappedDisk(this.loop(path), statSync(path).size / 512);
    this.#undo.push(() => {
      disk.remove();
    });
    return disk;
  }

  /** Where the device's filesystem is mounted, as long as the room's stage is open: this thread is in its namespace. */
  mount(device: string): string {
    const at = join(this.#directory, 'at');
    mkdirSync(at);
    run('mount', '-t', 'ext4', '-o', 'ro,noload', device, at);
    return at;
  }
}

/** A device whose table can be exchanged. */
class MappedDisk {
  readonly path: string;
  readonly #name = `cfs-test-${randomUUID()}`;
  readonly #sectors: number;
  readonly #linear: string;

  constructor(device: string, sectors: number) {
    this.#sectors = sectors;
    this.#linear = `0 ${sectors} linear ${device} 0`;
    run('dmsetup', 'create', this.#name, '--readonly', '--noudevsync', '--table', this.#linear);
    this.path = `/dev/dm-${run('dmsetup', 'info', '--columns', '--noheadings', '-o', 'minor', this.#name)}`;
  }

  /** Every request from now on fails. */
  fail(): void {
    this.#load(`0 ${this.#sectors} error`);
  }

  /** Requests wait from now on. */
  stall(): void {
    run('dmsetup', 'suspend', '--nolockfs', '--noflush', this.#name);
  }

  /** Works again. */
  work(): void {
    this.#load(this.#linear);
  }

  remove(): void {
    run('dmsetup', 'remove', '--noudevsync', this.#name);
  }

  #load(table: string): void {
    this.stall();
    run('dmsetup', 'load', this.#name, '--readonly', '--table', table);
    run('dmsetup', 'resume', '--noudevsync', this.#name);
  }
}

function forget(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

async function take(room: Room, file: OwnedFd, user: number): Promise<TakenImage> {
  const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
  return await room.images.take(request, room.peer(user), room.policy);
}

/** Another user brings an image and mounts it, whatever the disk does. */
async function anotherMounts(room: Room): Promise<void> {
  using memfd = sealedMemfd(room.image);
  using image = await take(room, memfd, other);
  using mount = await room.mount(image, { peer: room.peer(other) });
  expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
}

/** Mounts the disk's image with the disk's own objects, as the client's store. */
async function mountFromDisk(room: Room, at: string): Promise<OwnedFd> {
  using file = openFile(join(at, 'image.cfs'));
  using folder = openFile(join(at, 'store'), { directory: true });
  const directories = [{ fd: folder.number, field: 'storeFileDescriptors[0]' }];
  using image = await take(room, file, owner);
  using stores = await room.stores.resolve({ names: [], directories }, room.peer(owner), room.policy);
  const constraints = { ...room.constraints, stores: [], clientStores: true, verity: 'require' as const };
  return await room.mount(image, { constraints, stores, peer: room.peer(owner) });
}

describe.skipIf(skip)('a filesystem on a device that a user controls', () => {
  test('works by device-mapper: image and objects are checked by the kernel', async () => {
    const disks = new Disks();
    const room = openRoom();
    const disk = disks.map(disks.make());
    const at = disks.mount(disk.path);
    using mount = await mountFromDisk(room, at);
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
  });

  test('fails: its user gets errors, in mounts that exist and for new ones, and others go on', async () => {
    const disks = new Disks();
    const room = openRoom();
    const disk = disks.map(disks.make());
    const at = disks.mount(disk.path);
    using mount = await mountFromDisk(room, at);
    forget();
    disk.fail();
    expect(() => readFileSync(join(descriptorPath(mount.number), 'big'))).toThrow(/EIO/);
    await expect(mountFromDisk(room, at)).rejects.toThrow();
    await anotherMounts(room);
    disk.work();
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
    expect(room.bugs).toEqual([]);
  });

  test('stalls: its user waits until the time limit, and others go on', async () => {
    const disks = new Disks();
    const room = openRoom({ stallMilliseconds: 5000 });
    const disk = disks.map(disks.make());
    const at = disks.mount(disk.path);
    using file = openFile(join(at, 'image.cfs'));
    forget();
    disk.stall();
    try {
      await expect(take(room, file, owner)).rejects.toMatchObject({ name: error('TimedOut') });
      expect(room.pool.threads.lost).toBe(1);
      await anotherMounts(room);
    } finally {
      disk.work();
    }
    await until('the thread to return', () => room.pool.threads.lost === 0);
    using mount = await mountFromDisk(room, at);
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
    expect(room.bugs).toEqual([]);
  });

  test('a loop device over a file of a FUSE server stalls: its user waits, and others go on', async () => {
    const disks = new Disks();
    const room = openRoom({ stallMilliseconds: 5000 });
    const fuse = await startHeldFuse(room, ['read'], { content: disks.make(), released: true });
    const at = disks.mount(disks.loop(join(fuse.path, 'file')));
    using file = openFile(join(at, 'image.cfs'));
    forget();
    await fuse.hold();
    await expect(take(room, file, owner)).rejects.toMatchObject({ name: error('TimedOut') });
    await fuse.held('read');
    await anotherMounts(room);
    fuse.release();
    await until('the thread to return', () => room.pool.threads.lost === 0);
    using mount = await mountFromDisk(room, at);
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
    expect(room.bugs).toEqual([]);
  });
});
