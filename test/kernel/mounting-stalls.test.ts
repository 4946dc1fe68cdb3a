import { spawn } from 'node:child_process';
import { closeSync, linkSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { digestFromBytes } from '../../src/base/digest.ts';
import { openImmutableImage } from '../../src/client/sealed-image.ts';
import { adjustLimits, limits } from '../../src/daemon/callers/limits.ts';
import { openFile } from '../../src/sys/file.ts';
import { measureVerity } from '../../src/sys/verity.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { smallImage } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { descriptorsOf, openRoom, sealedMemfd, startHeldFuse, until, type Room } from './mounting-room.ts';

const skip = needs('kernel', isRoot && canOpen('/dev/fuse'), 'root and /dev/fuse');
const error = (name: string): string => `io.cfsmountd.MountDelegation.${name}`;

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'));
    return true;
  } catch {
    return false;
  }
}

function take(room: Room, fd: number, user: number): Promise<{ digest: string } & Disposable> {
  const request = { kind: 'descriptor', fd, field: 'image.fileDescriptor' } as const;
  return Promise.resolve(room.images.take(request, room.peer(user), room.policy));
}

describe.skipIf(skip)('a client that lets the daemon wait', () => {
  test('waits for itself: TimedOut, its share of threads shrinks, others go on', async () => {
    const room = openRoom({ stallMilliseconds: 300, threadsPerUser: 2, threads: 2 });
    const fuse = await startHeldFuse(room, ['getattr']);
    using file = openFile(join(fuse.path, 'file'));
    using memfd = sealedMemfd(room.image);
    for (let round = 0; round < 2; round++) {
      await expect(take(room, file.number, 1000)).rejects.toMatchObject({ name: error('TimedOut') });
    }
    expect(room.pool.threads.lost).toBe(2);
    // Both threads of that user are lost: not even a task that cannot stall gets one.
    await expect(take(room, memfd.number, 1000)).rejects.toMatchObject({
      name: error('LimitExceeded'),
      parameters: { limit: 'threadsPerUser' },
    });
    {
      using image = await take(room, memfd.number, 2000);
      expect(image.digest).toBe(room.digest);
    }
    fuse.release();
    await until('the threads to return', () => room.pool.threads.lost === 0);
    using image = await take(room, memfd.number, 1000);
    expect(image.digest).toBe(room.digest);
    expect(room.bugs).toEqual([]);
  });

  test('a FUSE file is no immutable image, whatever its server answers', async () => {
    const room = openRoom();
    const fuse = await startHeldFuse(room, []);
    using file = openFile(join(fuse.path, 'file'));
    await expect(take(room, file.number, 1000)).rejects.toMatchObject({ name: error('ImageNotImmutable') });
    using folder = openFile(join(fuse.path, 'folder'), { directory: true });
    const directories = [{ fd: folder.number, field: 'storeFileDescriptors[0]' }];
    const resolved = room.stores.resolve({ names: [], directories }, room.peer(), room.policy);
    await expect(resolved).rejects.toMatchObject({
      name: error('BadFileDescriptor'),
      parameters: { field: 'storeFileDescriptors[0]' },
    });
  });

  test('what a FUSE server says of fs-verity counts for nothing', async () => {
    const room = openRoom();
    const other = smallImage({ other: 'what is really in the file\n' });
    const content = join(room.directory, 'other.cfs');
    writeFileSync(content, other);
    const fuse = await startHeldFuse(room, [], { content, verity: room.digest });
    using file = openFile(join(fuse.path, 'file'));
    // It does lie: the kernel passes its word on.
    expect(digestFromBytes(measureVerity(file.number)?.digest ?? new Uint8Array())).toBe(room.digest);
    await expect(take(room, file.number, 1000)).rejects.toMatchObject({ name: error('ImageNotImmutable') });
    // A client sends a copy of such a file, which is hashed.
    const sent = openImmutableImage(join(fuse.path, 'file'));
    using copy = sent.fd;
    expect(sent).toMatchObject({ kind: 'memfd', digest: undefined });
    using image = await take(room, copy.number, 1000);
    expect(image.digest).toBe(verityDigest(other));
    expect(room.bugs).toEqual([]);
  });

  test('a close that hangs holds up the lane of its user alone', async () => {
    const room = openRoom();
    const fuse = await startHeldFuse(room, ['flush']);
    const fd = openFile(join(fuse.path, 'file')).take();
    room.closing.close([fd], { user: 1000 });
    await fuse.held('flush');
    const behind = openFile('/dev/null').take();
    room.closing.close([behind], { user: 1000 });
    expect(room.closing.backlog(1000)).toBe(2);
    const others = Array.from({ length: 20 }, () => openFile('/dev/null').take());
    for (const [index, other] of others.entries()) room.closing.close([other], { user: 2000 + (index % 3) });
    await until('the others to be closed', () =>
      [2000, 2001, 2002].every((user) => room.closing.backlog(user) === 0),
    );
    expect(room.closing.backlog(1000)).toBe(2);
    fuse.release();
    await until('the lane to move', () => room.closing.backlog(1000) === 0);
    expect(room.bugs).toEqual([]);
  });

  test('a stalled task ends with its duplicates closed, and late results too', async () => {
    const room = openRoom({ stallMilliseconds: 200 });
    const fuse = await startHeldFuse(room, ['getattr']);
    using file = openFile(join(fuse.path, 'file'));
    await expect(take(room, file.number, 1000)).rejects.toMatchObject({ name: error('TimedOut') });
    fuse.release();
    await until('the thread to return', () => room.pool.threads.lost === 0);
    await until('the duplicates to be closed', () => room.closing.backlog(1000) === 0);
    expect(descriptorsOf('/file')).toBe(1);
    expect(room.pool.threads.all).toBeLessThanOrEqual(2);
  });

  test('a lease on a file is no reason to wait', async () => {
    const room = openRoom();
    const path = join(room.directory, 'leased');
    writeFileSync(path, room.image);
    const program = [
      'import fcntl, signal, sys',
      // The signal that somebody opens the file would end the holder, and the lease with it.
      'signal.signal(signal.SIGIO, signal.SIG_IGN)',
      'f = open(sys.argv[1], "r+b")',
      'fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)',
      'print("leased", flush=True)',
      'sys.stdin.read()',
    ].join('\n');
    const holder = spawn('python3', ['-c', program, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    const gone = new Promise((resolve) => holder.once('exit', resolve));
    let said = '';
    holder.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the lease', () => said.includes('leased'));
    linkSync(path, join(room.imageDirectory, 'leased.cfs'));
    const named = async (): Promise<unknown> =>
      room.images.take({ kind: 'name', name: 'leased' }, room.peer(), room.policy);
    await expect(named()).rejects.toMatchObject({
      name: error('ImageNotImmutable'),
      parameters: { reason: expect.stringMatching(/holds a lease/) as unknown },
    });
    holder.stdin.end();
    await gone;
    expect(room.bugs).toEqual([]);
  });

  test('whoever gives a mount up and asks for another waits for the sweep that still holds the first', async () => {
    const before = limits.superblocksPerUser;
    adjustLimits(new Map([['superblocksPerUser', 1]]));
    onTestFinished(() => {
      adjustLimits(new Map([['superblocksPerUser', before]]));
    });
    const room = openRoom({ threads: 1 });
    writeFileSync(join(room.imageDirectory, 'app.cfs'), room.image);
    using image = await room.images.take({ kind: 'name', name: 'app' }, room.peer(), room.policy);
    (await room.mount(image)).close();
    await until('the first is swept', () => {
      room.handouts.drain();
      return room.handouts.totals.superblocks === 0 && room.sweeper.sweeping === undefined;
    });
    // The sweep of the second has no thread.
    const fuse = await startHeldFuse(room, ['getattr']);
    using folder = openFile(join(fuse.path, 'folder'), { directory: true });
    const directories = [{ fd: folder.number, field: 'storeFileDescriptors[0]' }];
    const stalled = room.stores.resolve({ names: [], directories }, room.peer(), room.policy);
    const refused = expect(stalled).rejects.toMatchObject({ name: error('BadFileDescriptor') });
    await fuse.held('getattr');
    const given = await room.mount(image);
    await until('a sweep is under way', () => room.sweeper.sweeping !== undefined);
    given.close();
    let outcome = 'waits';
    const another = room.mount(image).then(
      (mount) => {
        outcome = 'mounted';
        mount.close();
      },
      (reason: unknown) => {
        outcome = String(reason);
      },
    );
    await setImmediate();
    expect(outcome).toBe('waits');
    fuse.release();
    await refused;
    await another;
    expect(outcome).toBe('mounted');
  });
});
