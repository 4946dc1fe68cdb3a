import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  BadFileDescriptor,
  ImageNotFound,
  ImageNotImmutable,
  IncompatibleImage,
  ObjectsMissing,
} from '../../src/api/mount-delegation.ts';
import type { TakenImage } from '../../src/daemon/images/images.ts';
import { createMemfd, openFile, writeAll } from '../../src/sys/file.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { isRoot, needs } from '../support/needs.ts';
import {
  bigContent,
  descriptorsOf,
  openDescriptors,
  openRoom,
  sealedMemfd,
  until,
  type Room,
} from './mounting-room.ts';

const skip = needs('kernel', isRoot, 'root');

async function takeDescriptor(room: Room, fd: number): Promise<TakenImage> {
  return room.images.take(
    { kind: 'descriptor', fd, field: 'image.fileDescriptor' },
    room.peer(),
    room.policy,
  );
}

async function takeName(room: Room, name: string): Promise<TakenImage> {
  return room.images.take({ kind: 'name', name }, room.peer(), room.policy);
}

function show(mount: OwnedFd): { names: string[]; big: string } {
  const root = descriptorPath(mount.number);
  return { names: readdirSync(root).sort(), big: readFileSync(join(root, 'big'), 'utf8') };
}

const shown = { names: ['big', 'small'], big: bigContent };

describe.skipIf(skip)('an image on its way to a mount', () => {
  test('as a sealed memfd: copied, measured, mounted, and nothing stays', async () => {
    const room = openRoom();
    const table = readFileSync('/proc/self/mountinfo', 'utf8');
    using memfd = sealedMemfd(room.image);
    const before = openDescriptors();
    const rounds = 60;
    for (let round = 0; round < rounds; round++) {
      {
        using image = await takeDescriptor(room, memfd.number);
        expect(image).toMatchObject({ kind: 'memfd', digest: room.digest });
        using mount = await room.mount(image);
        expect(show(mount)).toEqual(shown);
        expect(room.handouts.totals).toMatchObject({ superblocks: 1, copiedBytes: room.image.length });
      }
      await until('superblock and copy to go', () => {
        return room.handouts.totals.superblocks === 0 && room.handouts.totals.copiedBytes === 0;
      });
    }
    // What stays is that of the threads, the clone of the store, and the watches' one: far less than one a round.
    expect(openDescriptors() - before).toBeLessThan(rounds / 2);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(table);
    expect(room.bugs).toEqual([]);
  });

  test('by name: the second time without waiting, replaced files seen', async () => {
    const room = openRoom();
    const path = join(room.imageDirectory, 'app.cfs');
    writeFileSync(path, room.image);
    {
      using image = await takeName(room, 'app');
      expect(image).toMatchObject({ kind: 'installed', digest: room.digest, location: path });
      using mount = await room.mount(image);
      expect(show(mount)).toEqual(shown);
    }
    // No promise: the way of a known image does not leave the event loop's turn.
    const again = room.images.take({ kind: 'name', name: 'app' }, room.peer(), room.policy);
    expect(again).not.toBeInstanceOf(Promise);
    (await again)[Symbol.dispose]();
    const other = Buffer.concat([room.image, Buffer.alloc(4096)]);
    writeFileSync(`${path}.new`, other);
    renameSync(`${path}.new`, path);
    using replaced = await takeName(room, 'app');
    expect(replaced.digest).toBe(verityDigest(other));
    // The one before is not kept open: it would take up disk space that nobody can see.
    expect(room.installed.keptOpen).toBe(1);
    rmSync(path);
    await expect(takeName(room, 'app')).rejects.toThrow(ImageNotFound);
  });

  test('by name: files and folders that have not changed for some time are not opened, and changes are seen', async () => {
    const room = openRoom();
    const path = join(room.imageDirectory, 'app.cfs');
    const other = Buffer.concat([room.image, Buffer.alloc(4096)]);
    writeFileSync(path, room.image);
    writeFileSync(`${path}.sig`, 'signature');
    const settled = Math.max(
      ...[path, `${path}.sig`, room.imageDirectory].map((each) => statSync(each).ctimeMs),
    );
    await until('the files to have been there for some time', () => Date.now() > settled + 4000);
    const take = async (): Promise<string> => {
      using image = await takeName(room, 'app');
      return `${image.digest} ${Buffer.from(image.signatureFiles[0] ?? []).toString()}`;
    };
    for (let round = 0; round < 3; round++) expect(await take()).toBe(`${room.digest} signature`);
    writeFileSync(`${path}.sig`, 'another');
    expect(await take()).toBe(`${room.digest} another`);
    rmSync(`${path}.sig`);
    expect(await take()).toBe(`${room.digest} `);
    chmodSync(path, 0o666);
    await expect(take()).rejects.toMatchObject({ name: nameOf(ImageNotImmutable) });
    chmodSync(path, 0o644);
    expect(await take()).toBe(`${room.digest} `);
    writeFileSync(`${path}.new`, other);
    renameSync(`${path}.new`, path);
    expect(await take()).toBe(`${verityDigest(other)} `);
  }, 30_000);

  test('by name, changed in place: the one who writes does not wait for long', async () => {
    const room = openRoom();
    const path = join(room.imageDirectory, 'app.cfs');
    writeFileSync(path, room.image);
    (await takeName(room, 'app'))[Symbol.dispose]();
    expect(room.installed.keptOpen).toBe(1);
    process.on('SIGIO', () => {
      room.installed.releaseBroken();
    });
    const other = Buffer.concat([room.image, Buffer.alloc(4096)]);
    const { writeFile } = await import('node:fs/promises');
    await writeFile(path, other);
    process.removeAllListeners('SIGIO');
    using changed = await takeName(room, 'app');
    expect(changed.digest).toBe(verityDigest(other));
  });

  test('by digest, in a folder below, with the signature beside it', async () => {
    const room = openRoom();
    mkdirSync(join(room.imageDirectory, 'deep/er'), { recursive: true });
    const path = join(room.imageDirectory, 'deep/er/app-1.0.cfs');
    writeFileSync(path, room.image);
    writeFileSync(join(room.imageDirectory, 'other.cfs'), 'other');
    writeFileSync(`${path}.sig`, 'a signature');
    const request = { kind: 'digest', digest: room.digest } as const;
    for (let round = 0; round < 2; round++) {
      using image = await room.images.take(request, room.peer(), room.policy);
      expect(image.location).toBe(path);
      expect(Buffer.from(image.signatureFiles[0] ?? []).toString()).toBe('a signature');
    }
    using named = await takeName(room, 'deep/er/app-1.0');
    expect(named.digest).toBe(room.digest);
    const late = Buffer.from('installed later');
    const absent = { kind: 'digest', digest: verityDigest(late) } as const;
    const take = async (): Promise<TakenImage> => room.images.take(absent, room.peer(), room.policy);
    await expect(take()).rejects.toMatchObject({ name: nameOf(ImageNotFound) });
    await expect(Promise.all([take(), take()])).rejects.toMatchObject({ name: nameOf(ImageNotFound) });
    writeFileSync(join(room.imageDirectory, 'deep/late.cfs'), late);
    using found = await take();
    expect(found.location).toBe(join(room.imageDirectory, 'deep/late.cfs'));
  });

  test('suffixes are tried in the order of the contract, and the first directory wins', async () => {
    const room = openRoom();
    const second = join(room.directory, 'second');
    mkdirSync(second);
    const policy = { ...room.policy, imageDirectories: [room.imageDirectory, second] };
    writeFileSync(join(room.imageDirectory, 'app.erofs'), 'in the first, erofs');
    writeFileSync(join(second, 'app.cfs'), 'in the second, cfs');
    const take = async (): Promise<string | undefined> => {
      using image = await room.images.take({ kind: 'name', name: 'app' }, room.peer(), policy);
      return image.location;
    };
    expect(await take()).toBe(join(room.imageDirectory, 'app.erofs'));
    writeFileSync(join(room.imageDirectory, 'app.cfs'), 'in the first, cfs');
    expect(await take()).toBe(join(room.imageDirectory, 'app.cfs'));
  });
});

describe.skipIf(skip)('images that are not taken', () => {
  test('descriptors that are no immutable image, each with its reason', async () => {
    const room = openRoom();
    const plain = join(room.directory, 'plain');
    writeFileSync(plain, room.image);
    using unsealed = createMemfd('unsealed');
    writeAll(unsealed.number, room.image);
    const [read, write] = pipe();
    using reading = read;
    using writing = write;
    using file = openFile(plain);
    using pathOnly = openFile(plain, { pathOnly: true });
    using writable = openFile(plain, { access: 'write' });
    using directory = openFile(room.directory, { directory: true });
    using device = openFile('/dev/null');
    const faults: [OwnedFd, new (...parameters: never[]) => Error, RegExp][] = [
      [unsealed, ImageNotImmutable, /F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW/],
      [file, ImageNotImmutable, /fs-verity/],
      [pathOnly, BadFileDescriptor, /O_PATH/],
      [writable, BadFileDescriptor, /writing alone/],
      [directory, BadFileDescriptor, /a directory/],
      [reading, BadFileDescriptor, /a pipe/],
      [writing, BadFileDescriptor, /writing alone/],
      [device, BadFileDescriptor, /a character device/],
    ];
    for (const [fd, kind, reason] of faults) {
      const refused = takeDescriptor(room, fd.number);
      await expect(refused).rejects.toMatchObject({
        name: nameOf(kind),
        parameters: { reason: expect.stringMatching(reason) as unknown },
      });
    }
    // What the threads worked with is closed: of the plain file, the three of this test are left.
    await until('duplicates to be closed', () => descriptorsOf('/plain') === 3);
  });

  test('installed files that others could change', async () => {
    const room = openRoom();
    const path = join(room.imageDirectory, 'app.cfs');
    writeFileSync(path, room.image);
    const refused = async (reason: RegExp): Promise<void> => {
      await expect(takeName(room, 'app')).rejects.toMatchObject({
        name: nameOf(ImageNotImmutable),
        parameters: { reason: expect.stringMatching(reason) as unknown },
      });
    };
    chmodSync(path, 0o664);
    await refused(/can be written by others/);
    chmodSync(path, 0o644);
    chownSync(path, 1000, 0);
    await refused(/belongs to user 1000/);
    chownSync(path, 0, 0);
    const writer = openSync(path, constants.O_WRONLY);
    await refused(/open for writing/);
    closeSync(writer);
    rmSync(path);
    writeFileSync(join(room.directory, 'outside.cfs'), room.image);
    symlinkSync('../outside.cfs', path);
    await refused(/leads out/);
    rmSync(path);
    mkdirSync(join(room.imageDirectory, 'open'));
    chmodSync(join(room.imageDirectory, 'open'), 0o777);
    writeFileSync(join(room.imageDirectory, 'open', 'app.cfs'), room.image);
    symlinkSync('open/app.cfs', path);
    await refused(/open can be written by others/);
    expect(room.installed.keptOpen).toBe(0);
  });

  test('an image of another filesystem, and files that no store has', async () => {
    const room = openRoom();
    using memfd = sealedMemfd(room.image);
    using image = await takeDescriptor(room, memfd.number);
    const as = (fileSystem: 'erofs'): Promise<OwnedFd> =>
      room.mount(image, { constraints: { ...room.constraints, fileSystem } });
    await expect(as('erofs')).rejects.toThrow(IncompatibleImage);
    const without = { ...room.constraints, stores: [] };
    await expect(room.mount(image, { constraints: without })).rejects.toMatchObject({
      name: nameOf(ObjectsMissing),
      parameters: { count: 1, objects: [expect.stringMatching(/^[0-9a-f]{2}\/[0-9a-f]{62}$/)] },
    });
    using junk = sealedMemfd(Buffer.alloc(8192, 7));
    using broken = await takeDescriptor(room, junk.number);
    await expect(room.mount(broken)).rejects.toMatchObject({ name: nameOf(IncompatibleImage) });
    expect(room.handouts.totals.superblocks).toBe(0);
  });

  test('plain EROFS mounts as such', async () => {
    const room = openRoom();
    const path = join(room.imageDirectory, 'plain.erofs');
    execFileSync('mkfs.erofs', [path, join(room.directory, 'source')], { stdio: 'ignore' });
    chmodSync(path, 0o644);
    using image = await takeName(room, 'plain');
    const constraints = { ...room.constraints, fileSystem: 'erofs', stores: [] } as const;
    using mount = await room.mount(image, { constraints });
    expect(show(mount)).toEqual(shown);
  });
});

function nameOf(kind: new (...parameters: never[]) => Error): string {
  return `io.cfsmountd.MountDelegation.${kind.name}`;
}

function pipe(): [OwnedFd, OwnedFd] {
  const path = `/tmp/cfs-mounting-pipe-${process.pid}`;
  execFileSync('mkfifo', [path]);
  const both = openSync(path, constants.O_RDWR);
  const ends: [OwnedFd, OwnedFd] = [
    openFile(path, { nonBlocking: true }),
    openFile(path, { access: 'write' }),
  ];
  closeSync(both);
  rmSync(path);
  return ends;
}
