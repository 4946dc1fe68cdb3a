import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { checkStore } from '../../src/store/check-store.ts';
import { collectGarbage } from '../../src/store/collect-garbage.ts';
import { HandedOutImages } from '../../src/store/handed-out.ts';
import { lockStore } from '../../src/store/store-lock.ts';
import { digestOf } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawClient } from '../support/raw-client.ts';
import { connectAs, errorName, memfdOf, readFrom, serviceError } from './acceptance-room.ts';
import {
  adderUid,
  AddingRoom,
  contentOf,
  frugalBytes,
  frugalUid,
  imageOf,
  otherAdderUid,
  strangerUid,
  type Content,
} from './adding-room.ts';

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('adding files to a store', () => {
  let room: AddingRoom;
  const clients: RawClient[] = [];
  const client = (uid = adderUid): RawClient => {
    const made = connectAs(room.host, uid);
    clients.push(made);
    return made;
  };
  const memfds = (contents: readonly Content[]): OwnedFd[] => contents.map(({ bytes }) => memfdOf(bytes, []));

  beforeAll(async () => {
    room = await AddingRoom.open('adding');
  });
  afterEach(() => {
    for (const each of clients.splice(0)) each.close();
  });
  afterAll(async () => {
    await room.close();
  });

  test('a user without privileges adds what an image misses, and mounts it', async () => {
    const contents = { a: contentOf('way a'), b: contentOf('way b', 3_000_000), c: contentOf('way c') };
    const image = imageOf(contents);
    const digest = digestOf(image);
    const user = client();
    const paths = Object.values(contents).map(({ path }) => path);
    const asked = await room.add(user, image, []);
    expect(asked.parameters).toMatchObject({ store: 'site', added: [] });
    expect([...(asked.parameters['missing'] as string[])].sort()).toEqual([...paths].sort());
    expect(asked.parameters['missingNext']).toBeUndefined();
    using memfd = memfdOf(image);
    const signatures = room.signatures(digest);
    const mountCall = { image: { fileDescriptor: 0 }, signatures };
    const early = await user.call('Mount', mountCall, [memfd.number]);
    expect(early.error).toBe(errorName('ObjectsMissing'));

    const files = memfds(Object.values(contents));
    const reply = await room.add(user, image, files);
    expect(reply.error).toBeUndefined();
    expect(reply.parameters).toMatchObject({
      evidence: { digest, rule: 'adders', name: 'example/app', signers: ['site'] },
      added: paths,
      missing: [],
    });
    for (const file of files) file.close();
    for (const { path, bytes } of Object.values(contents)) {
      const found = statSync(join(room.store, path));
      expect([found.uid, found.gid, found.mode & 0o7777, found.nlink]).toEqual([0, 0, 0o444, 1]);
      expect(readFileSync(join(room.store, path)).equals(bytes)).toBe(true);
    }
    const mounted = await user.call('Mount', mountCall, [memfd.number]);
    expect(mounted.error).toBeUndefined();
    expect(readFrom(mounted, 'b')).toBe(Buffer.from(contents.b.bytes).toString());
    expect(room.host.audit).toContainEqual(
      expect.objectContaining({
        method: 'AddObjects',
        user: adderUid,
        digest,
        result: 'allowed',
        rule: 'adders',
        store: 'site',
        addedFiles: 3,
        addedBytes: 3_010_000,
      }),
    );
  });

  test('what is there already is passed over, and costs nothing', async () => {
    const content = contentOf('again', frugalBytes / 4);
    const image = imageOf({ a: content });
    const user = client(frugalUid);
    // More than the user may add within an hour, if each counted.
    for (const expected of [[content.path], [], [], [], [], []]) {
      const [file] = memfds([content]);
      const reply = await room.add(user, image, file === undefined ? [] : [file]);
      file?.close();
      expect(reply.parameters['added']).toEqual(expected);
    }
  });

  test('the digest stands for an image that was shown on the connection, and on no other', async () => {
    const content = contentOf('shown');
    const image = imageOf({ a: content });
    const digest = digestOf(image);
    const user = client();
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    const parameters = {
      image: { name: digest },
      signatures: room.signatures(digest),
      objectFileDescriptors: [0],
    };
    const early = await user.call('AddObjects', parameters, [owned.number]);
    expect(early.error).toBe(errorName('ImageNotFound'));
    await room.add(user, image, []);
    const reply = await user.call('AddObjects', parameters, [owned.number]);
    expect(reply.parameters['added']).toEqual([content.path]);
    // Who names a digest still has to bring what the policy asks for.
    const unsigned = await user.call('AddObjects', { image: { name: digest } });
    expect(unsigned.error).toBe(errorName('NotSigned'));
    const other = await client().call('AddObjects', parameters, [owned.number]);
    expect(other.error).toBe(errorName('ImageNotFound'));
  });

  test('an installed image is named, with the signature beside it', async () => {
    const content = contentOf('installed');
    const image = imageOf({ a: content });
    const path = join(room.place.folder, 'images', 'app.cfs');
    writeFileSync(path, image);
    writeFileSync(`${path}.sig`, room.signer.sign(digestOf(image), 'example/app'));
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    const reply = await client().call('AddObjects', { image: { name: 'app' }, objectFileDescriptors: [0] }, [
      owned.number,
    ]);
    expect(reply.parameters['added']).toEqual([content.path]);
  });

  test('as many files as one message takes, and missing ones are listed part by part', async () => {
    const contents = Array.from({ length: 300 }, (_, index) => contentOf(`many ${index}`, 200));
    const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
    const user = client();
    const listed: string[] = [];
    let from: unknown = 0;
    let calls = 0;
    for (; typeof from === 'number'; calls += 1) {
      const reply = await room.add(user, image, [], { missingFrom: from, missingMost: 100 });
      listed.push(...(reply.parameters['missing'] as string[]));
      from = reply.parameters['missingNext'];
    }
    expect(calls).toBe(3);
    expect(listed.sort()).toEqual(contents.map(({ path }) => path).sort());
    const files = memfds(contents.slice(0, 253));
    const reply = await user.call(
      'AddObjects',
      {
        image: { name: digestOf(image) },
        signatures: room.signatures(digestOf(image)),
        objectFileDescriptors: files.map((_, index) => index),
      },
      files.map(({ number }) => number),
    );
    for (const file of files) file.close();
    expect(reply.error).toBeUndefined();
    expect(reply.parameters['added']).toHaveLength(253);
    expect(reply.parameters['missing']).toHaveLength(47);
    const none = await room.add(user, image, [], { missingMost: 0 });
    expect(none.parameters).toMatchObject({ missing: [] });
  });

  describe('is refused', () => {
    const content = contentOf('refused');
    const foreign = contentOf('foreigner');
    const image = imageOf({ a: content });

    /** Calls with one file, and answers the error; nothing may have come to the store. */
    async function refused(file: OwnedFd, more: object = {}, uid = adderUid): Promise<unknown> {
      const before = room.stored();
      const reply = await room.add(client(uid), image, [file], { ...more });
      file.close();
      expect(room.stored()).toEqual(before);
      return [reply.error, reply.parameters];
    }

    const bad = (reason: string): unknown => [
      errorName('BadFileDescriptor'),
      { field: 'objectFileDescriptors[0]', reason: expect.stringContaining(reason) as unknown },
    ];

    test.each([
      ['a file of another image', foreign.bytes, 'the image has no file with this content'],
      ['a file of another size', Buffer.alloc(4999), 'no file of the image has its size of 4999 bytes'],
      ['an empty file', new Uint8Array(), 'size of 0 bytes'],
      ['a file with one byte changed', changed(content.bytes), 'the image has no file with this content'],
    ])('%s', async (_what, bytes, reason) => {
      expect(await refused(memfdOf(bytes, []))).toEqual(bad(reason));
    });

    test('whoever has no right, by name of what is missing', async () => {
      expect(await refused(memfdOf(content.bytes, []), {}, strangerUid)).toEqual([
        errorName('DeniedByPolicy'),
        { reason: expect.stringContaining('rule "strangers": add-objects: lets nobody add') as unknown },
      ]);
      expect(await refused(memfdOf(content.bytes, []), {}, 61_099)).toEqual([
        errorName('DeniedByPolicy'),
        { reason: expect.stringContaining('is not for user 61099') as unknown },
      ]);
    });

    test('an image that is not admitted', async () => {
      const unsigned = await refused(memfdOf(content.bytes, []), { signatures: [] });
      expect(unsigned).toEqual([
        errorName('NotSigned'),
        { digest: digestOf(image), reason: expect.stringContaining('the image is not signed') as unknown },
      ]);
      const elsewhere = room.signatures(digestOf(image), 'elsewhere/app');
      const named = await refused(memfdOf(content.bytes, []), { signatures: elsewhere });
      expect(named).toEqual([
        errorName('DeniedByPolicy'),
        { reason: expect.stringContaining('matches none of example/**') as unknown },
      ]);
    });

    test('a store that the rule does not name, or that does not exist', async () => {
      expect(await refused(memfdOf(content.bytes, []), { store: 'other' })).toEqual([
        errorName('DeniedByPolicy'),
        { reason: expect.stringContaining('to "site", not to "other"') as unknown },
      ]);
      expect(await refused(memfdOf(content.bytes, []), { store: 'nowhere' })).toEqual([
        errorName('StoreNotFound'),
        { name: 'nowhere', reason: expect.stringContaining('the policy has no store') as unknown },
      ]);
    });

    test('what is no readable regular file', async () => {
      const folder = room.place.folder;
      const path = join(folder, 'plain');
      writeFileSync(path, content.bytes);
      chmodSync(path, 0o666);
      expect(await refused(openFile(path, { pathOnly: true }))).toEqual(bad('O_PATH'));
      expect(await refused(openFile(path, { access: 'write' }))).toEqual(bad('for writing alone'));
      expect(await refused(openFile(folder, { directory: true }))).toEqual(bad('a directory'));
      expect(await refused(openFile('/dev/zero'))).toEqual(bad('a character device'));
      expect(await refused(room.host.connect().socket.moved())).toEqual(bad('a socket'));
      expect(await refused(openFile('/proc/self/ns/user'))).toEqual(bad('size of 0 bytes'));
      const fifo = join(folder, 'fifo');
      spawnSync('mkfifo', [fifo]);
      expect(await refused(openFile(fifo, { access: 'read-write' }))).toEqual(bad('a pipe'));
    });

    test('a descriptor that is not there, or is named twice', async () => {
      const reply = await client().call('AddObjects', { image: { name: 'x' }, objectFileDescriptors: [0] });
      expect(reply.error).toBe(serviceError('InvalidParameter'));
      expect(reply.parameters['parameter']).toBe('objectFileDescriptors[0]');
      using file = memfdOf(content.bytes, []);
      const twice = await room.add(client(), image, [file], { objectFileDescriptors: [1, 1] });
      expect(twice.parameters['parameter']).toBe('objectFileDescriptors[1]');
      const below = await room.add(client(), image, [], { missingFrom: -1 });
      expect(below.parameters['parameter']).toBe('missingFrom');
    });

    test('what is beyond the quota of its user, and nobody else is', async () => {
      const large = contentOf('quota', frugalBytes);
      const small = contentOf('quota, small');
      const whole = imageOf({ a: large, b: small });
      const user = client(frugalUid);
      const before = room.stored();
      const [first, second] = memfds([large, small]);
      if (first === undefined || second === undefined) return;
      using one = first;
      using two = second;
      // Another test may have taken a part of the hour: with this one it is more than the whole in any case.
      const reply = await room.add(user, whole, [two, one]);
      expect(reply.error).toBe(errorName('LimitExceeded'));
      expect(reply.parameters).toEqual({ limit: 'addedBytesPerUser', value: frugalBytes });
      expect(room.stored()).toEqual(before);
      const other = await room.add(client(otherAdderUid), whole, [two, one]);
      expect(other.parameters['added']).toEqual([small.path, large.path]);
    });
  });

  test('files before one that is refused stay, and those after it are not taken', async () => {
    const contents = [contentOf('first'), contentOf('third')];
    const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
    const files = memfds(
      [contents[0], contentOf('second'), contents[1]].filter((each) => each !== undefined),
    );
    const reply = await room.add(client(), image, files);
    for (const file of files) file.close();
    expect(reply.parameters['field']).toBe('objectFileDescriptors[1]');
    expect(room.stored()).toContain(contents[0]?.path);
    expect(room.stored()).not.toContain(contents[1]?.path);
    expect(room.host.audit.at(-1)).toMatchObject({ result: 'BadFileDescriptor', addedFiles: 1 });
  });

  test('two callers add the same files at once: each is new once, and whole', async () => {
    const contents = Array.from({ length: 40 }, (_, index) => contentOf(`race ${index}`, 40_000 + index));
    const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
    const callers = [adderUid, otherAdderUid, adderUid, otherAdderUid].map((uid) => client(uid));
    const files = memfds(contents);
    const replies = await Promise.all(callers.map((each) => room.add(each, image, files)));
    for (const file of files) file.close();
    const added = replies.flatMap((reply) => reply.parameters['added'] as string[]);
    expect(added.sort()).toEqual(contents.map(({ path }) => path).sort());
    expect(replies.map((reply) => reply.parameters['missing'])).toEqual([[], [], [], []]);
  });

  test('while objects are removed from the store nothing is added, and the answer says so', async () => {
    const content = contentOf('collected');
    const image = imageOf({ a: content });
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    const collecting = lockStore(room.store, 'collect');
    try {
      const reply = await room.add(client(), image, [owned]);
      expect(reply.error).toBe(errorName('SystemError'));
      expect(reply.parameters['detail']).toContain('objects are being removed from the store; try again');
      expect(room.stored()).not.toContain(content.path);
    } finally {
      collecting.close();
    }
    const reply = await room.add(client(), image, [owned]);
    expect(reply.parameters['added']).toEqual([content.path]);
  });

  test('what was added stays for whoever collects, until it can be mounted', async () => {
    const content = contentOf('not garbage');
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    await room.add(client(), imageOf({ a: content }), [owned]);
    const collection = {
      ...{ images: [], mounted: () => new Set<never>(), dryRun: true, now: Date.now() },
      unknownMounts: 'refuse',
    } as const;
    const state = join(room.place.folder, 'state');
    const recorded = await collectGarbage(room.store, {
      ...collection,
      handedOut: new HandedOutImages(state),
    });
    expect(recorded.removed).not.toContain(content.path);
    const unknown = await collectGarbage(room.store, {
      ...collection,
      handedOut: new HandedOutImages(join(state, 'nothing')),
    });
    expect(unknown.removed).toContain(content.path);
  });

  test('a store that others than root could change gets nothing', async () => {
    const content = contentOf('open store');
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    chmodSync(room.store, 0o777);
    try {
      const reply = await room.add(client(), imageOf({ a: content }), [owned]);
      expect(reply.error).toBe(errorName('SystemError'));
      expect(reply.parameters['detail']).toContain('others than root could change');
    } finally {
      chmodSync(room.store, 0o755);
    }
  });

  test('a folder of the store that somebody else owns is not followed', async () => {
    const content = contentOf('foreign folder');
    const folder = join(room.store, content.path.slice(0, 2));
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o777);
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    const reply = await room.add(client(), imageOf({ a: content }), [owned]);
    chmodSync(folder, 0o755);
    expect(reply.parameters['detail']).toContain('can be written by others than root');
    expect(room.stored()).not.toContain(content.path);
  });

  test('a damaged object of the store is named, and not taken for the file', async () => {
    const content = contentOf('damaged');
    const path = join(room.store, content.path);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, 'short');
    const [file] = memfds([content]);
    if (file === undefined) return;
    using owned = file;
    const reply = await room.add(client(), imageOf({ a: content }), [owned]);
    expect(reply.parameters['detail']).toContain('damaged');
    writeFileSync(path, content.bytes);
  });

  test('in the end every object of the store is what its name says, and nothing else lies there', async () => {
    const report = await checkStore(room.store);
    expect(report.problems).toEqual([]);
    expect(report.objects).toBe(room.stored().length);
  });
});

function changed(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[100] = (copy[100] ?? 0) ^ 1;
  return copy;
}
