import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { limits } from '../../src/daemon/callers/limits.ts';
import { fillFiles, makeFiles, measureFiles } from '../../src/daemon/threads/object-files.ts';
import { checkStore } from '../../src/store/check-store.ts';
import { objectPath } from '../../src/store/objects.ts';
import { openFile } from '../../src/sys/file.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { isRoot, needs } from '../support/needs.ts';
import { connectAs, descriptorsOf as descriptorsOfProcess, errorName, memfdOf } from './acceptance-room.ts';
import { addingHere as adding } from './adding-here.ts';
import { adderUid, AddingRoom, contentOf, imageOf, otherAdderUid, type Content } from './adding-room.ts';
import { descriptorsOf, openRoom, sealedMemfd, startHeldFuse, until, type Room } from './mounting-room.ts';

const error = (name: string): string => errorName(name);

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'));
    return true;
  } catch {
    return false;
  }
}

/** What the FUSE server of mounting-fuse.py has in its file. */
const served: Content = (() => {
  const bytes = Buffer.alloc(8192, 'x');
  return { bytes, path: objectPath(verityDigest(bytes)) };
})();

const has = (room: Room, { path }: Content): boolean =>
  statSync(join(room.store.path, path), { throwIfNoEntry: false }) !== undefined;

describe.skipIf(needs('kernel', isRoot && canOpen('/dev/fuse'), 'root and /dev/fuse'))(
  'files that are held back',
  () => {
    test('a FUSE file is taken where it is what the image wants', async () => {
      const room = openRoom();
      const fuse = await startHeldFuse(room, []);
      using file = openFile(join(fuse.path, 'file'));
      const { add, added } = adding(room, [served]);
      await add([file.number]);
      expect(added).toEqual([served.path]);
      expect(readFileSync(join(room.store.path, served.path)).equals(served.bytes)).toBe(true);
    });

    test.each(['getattr', 'read'])(
      'a %s that is not answered holds up its own user, and is given up',
      async (operation) => {
        const room = openRoom({ stallMilliseconds: 3000, threadsPerUser: 2, threads: 2 });
        const fuse = await startHeldFuse(room, [operation]);
        using file = openFile(join(fuse.path, 'file'));
        const other = contentOf('of another user');
        const { add, added } = adding(room, [served, other]);
        using memfd = sealedMemfd(other.bytes);
        const stalled = expect(add([memfd.number, file.number])).rejects.toMatchObject({
          name: error('TimedOut'),
        });
        await fuse.held(operation);
        // While it hangs, others add and mount.
        await add([memfd.number], 2000);
        expect(added).toEqual([other.path]);
        using image = sealedMemfd(room.image);
        const request = { kind: 'descriptor', fd: image.number, field: 'image' } as const;
        {
          using taken = await room.images.take(request, room.peer(2000), room.policy);
          using mount = await room.mount(taken, { peer: room.peer(2000) });
          expect(mount.isOpen).toBe(true);
        }
        await stalled;
        expect(has(room, served)).toBe(false);
        fuse.release();
        await until('the thread to return', () => room.pool.threads.lost === 0);
        await until('everything of it to be closed', () => room.closing.backlog(1000) === 0);
        expect(has(room, served)).toBe(false);
        // The two memfds of this test are left, and the records of superblocks (superblock-watches.ts), and no copy.
        await until('the copies to be closed', () => descriptorsOf(' (deleted)') === 3);
        expect(room.bugs).toEqual([]);
      },
    );

    test('a flush that hangs when the descriptor is closed is for the closers', async () => {
      const room = openRoom();
      const fuse = await startHeldFuse(room, ['flush']);
      using file = openFile(join(fuse.path, 'file'));
      const { add, added } = adding(room, [served]);
      await add([file.number]);
      expect(added).toEqual([served.path]);
      await fuse.held('flush');
      fuse.release();
      await until('the lane to move', () => room.closing.backlog(1000) === 0);
    });
  },
);

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('files that change', () => {
  test('what is copied is measured, not what is there before or after', async () => {
    const room = openRoom();
    const content = contentOf('changing', 8 * 1024 * 1024);
    const path = join(room.directory, 'mapped');
    writeFileSync(path, content.bytes);
    // Writes through a mapping, one byte to and fro, as fast as it can.
    const program = [
      'import mmap, sys',
      'f = open(sys.argv[1], "r+b")',
      'm = mmap.mmap(f.fileno(), 0)',
      'at = len(m) - 100',
      'was = m[at]',
      'print("writing", flush=True)',
      'while True:',
      '    m[at] = was ^ 1',
      '    m[at] = was',
    ].join('\n');
    const writer = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = new Promise((resolve) => writer.once('exit', resolve));
    onTestFinished(async () => {
      writer.kill('SIGKILL');
      await gone;
    });
    let said = '';
    writer.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the writer', () => said.includes('writing'));
    using file = openFile(path);
    for (let round = 0; round < 20 && !has(room, content); round += 1) {
      const { add } = adding(room, [content]);
      await add([file.number]).catch((thrown: unknown) => {
        expect(thrown).toMatchObject({ name: error('BadFileDescriptor') });
      });
    }
    const report = await checkStore(room.store.path);
    expect(report.problems).toEqual([]);
  });

  test('a file that ends early is named; of one that goes on, only what was asked for is taken', () => {
    const room = openRoom();
    using store = openFile(room.store.path, { directory: true });
    const field = 'objectFileDescriptors[0]';
    using short = memfdOf(Buffer.alloc(1000), []);
    using long = memfdOf(Buffer.alloc(9000, 1), []);
    const [one, two] = makeFiles(store.number, 2, 10_000);
    if (one === undefined || two === undefined) throw new Error('no files were made');
    using first = one;
    using second = two;
    expect(() => {
      fillFiles([short.number], [first.number], [{ field, from: 0, bytes: 5000 }]);
    }).toThrow(expect.objectContaining({ name: error('BadFileDescriptor') }));
    fillFiles([long.number], [second.number], [{ field, from: 0, bytes: 3000 }]);
    fillFiles([long.number], [second.number], [{ field, from: 3000, bytes: 2000 }]);
    expect(statSync(`/proc/self/fd/${second.number}`).size).toBe(5000);
    expect(measureFiles([second.number], [5000])).toEqual([verityDigest(Buffer.alloc(5000, 1))]);
  });

  test('a large file is copied in steps, and is what it was', async () => {
    const room = openRoom();
    const content = contentOf('large', 40 * 1024 * 1024 + 17);
    using memfd = sealedMemfd(content.bytes);
    const { add, added } = adding(room, [content]);
    await add([memfd.number]);
    expect(added).toEqual([content.path]);
    expect((await checkStore(room.store.path)).problems).toEqual([]);
  });

  test('nothing more is added once another policy is in force', async () => {
    const room = openRoom();
    const content = contentOf('outdated');
    using memfd = sealedMemfd(content.bytes);
    const { add, added } = adding(room, [content]);
    let asked = 0;
    // It changes while the file is copied.
    await add([memfd.number], 1000, { isCurrent: () => (asked += 1) === 1 });
    expect(asked).toBe(2);
    expect(added).toEqual([]);
    expect(has(room, content)).toBe(false);
  });

  test('one user has so many calls at a time', async () => {
    const room = openRoom();
    const { adder } = adding(room, [contentOf('turns')]);
    let end = (): void => undefined;
    const held = new Promise<void>((resolve) => (end = resolve));
    const calls = Array.from({ length: limits.addingCallsPerUser }, () =>
      adder.inTurn({ user: 1000 }, () => held),
    );
    await expect(adder.inTurn({ user: 1000 }, () => held)).rejects.toMatchObject({
      parameters: { limit: 'addingCallsPerUser' },
    });
    await adder.inTurn({ user: 2000 }, () => Promise.resolve());
    end();
    await Promise.all(calls);
    await adder.inTurn({ user: 1000 }, () => Promise.resolve());
  });
});

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('a store that is full', () => {
  /** A store on a tmpfs of its own, with these options. */
  function smallStore(room: Room, options: string): Room {
    const path = join(room.directory, 'small');
    mkdirSync(path);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `mode=755,${options}`, 'small', path]);
    if (mounted.status !== 0) throw new Error(String(mounted.stderr));
    onTestFinished(() => {
      spawnSync('umount', [path]);
    });
    return { ...room, store: { ...room.store, name: 'small', path } };
  }

  test.each([
    ['bytes', 'size=1m', 'ENOSPC'],
    ['inodes', 'size=64m,nr_inodes=2', 'ENOSPC'],
  ])('says so, and nothing is left: %s', async (_what, options, code) => {
    const room = smallStore(openRoom(), options);
    const contents = [contentOf('full a', 800_000), contentOf('full b', 900_000), contentOf('full c', 300)];
    const { add, added } = adding(room, contents);
    const files = contents.map(({ bytes }) => sealedMemfd(bytes));
    await expect(add(files.map(({ number }) => number))).rejects.toMatchObject({
      code,
      detail: 'the store "small" is full',
    });
    for (const file of files) file.close();
    expect(added).toEqual([]);
    const report = await checkStore(room.store.path);
    expect(report).toMatchObject({ problems: [], objects: 0 });
    await until('the copies to be closed', () => room.closing.backlog(1000) === 0);
    const used = spawnSync('stat', ['-f', '-c', '%b %f', room.store.path])
      .stdout.toString()
      .trim()
      .split(' ');
    expect(used[0]).toBe(used[1]);
  });

  test('what fits is still added', async () => {
    const room = smallStore(openRoom(), 'size=1m');
    const contents = [contentOf('fits', 500_000), contentOf('fits not', 2_000_000)];
    const { add, added } = adding(room, contents);
    const files = contents.map(({ bytes }) => sealedMemfd(bytes));
    const [first, second] = files.map(({ number }) => number);
    await add([first ?? -1]);
    await expect(add([second ?? -1])).rejects.toMatchObject({ code: 'ENOSPC' });
    for (const file of files) file.close();
    expect(added).toEqual([contents[0]?.path]);
  });
});

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('a service that is killed', () => {
  test('leaves a store that is whole, and no other file in it', async () => {
    const contents = Array.from({ length: 200 }, (_, index) => contentOf(`killed ${index}`, 20_000 + index));
    const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
    for (const least of [1, 40, 90, 150]) {
      const room = await AddingRoom.open('adding-killed');
      const clients = [adderUid, otherAdderUid].map((uid) => connectAs(room.host, uid));
      const files = contents.map(({ bytes }) => memfdOf(bytes, []));
      // Both add the same files, from either end.
      const add = (index: number, list: typeof files): Promise<unknown> => {
        const client = clients[index];
        if (client === undefined) throw new RangeError('no such client');
        return room.add(client, image, list).catch(() => undefined);
      };
      const calls = [add(0, files), add(1, [...files].reverse())];
      await room.host.until('some files are there', () => room.stored().length >= least);
      room.host.signal('SIGKILL');
      await room.host.ended();
      await Promise.all(calls);
      for (const each of [...files, ...clients]) each.close();
      const report = await checkStore(room.store);
      expect(report.problems).toEqual([]);
      expect(report.objects).toBe(room.stored().length);
      expect(report.objects).toBeGreaterThanOrEqual(least);
      room.place.remove();
    }
  });

  test('nothing of the callers stays open', async () => {
    const room = await AddingRoom.open('adding-open');
    const contents = Array.from({ length: 100 }, (_, index) => contentOf(`open ${index}`));
    const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
    const client = connectAs(room.host, adderUid);
    const files = contents.map(({ bytes }) => memfdOf(bytes, []));
    const round = async (): Promise<void> => {
      await room.add(client, image, files);
      using foreign = memfdOf(contentOf('foreign').bytes, []);
      const refused = await room.add(client, image, [foreign]);
      expect(refused.error).toBe(error('BadFileDescriptor'));
    };
    await round();
    for (const file of files) file.close();
    const left = (): string[] =>
      descriptorsOfProcess(room.host.pid).filter((each) =>
        /memfd(?!:cfs-mountd-)|^\/(?!memfd).*deleted/.test(each),
      );
    // The kernel's probes keep none, and the images' copies go as their calls end.
    await room.host.until('everything is closed', () => left().length === 0);
    client.close();
    await room.close();
  });
});
