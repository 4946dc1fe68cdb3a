import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { checkStore } from '../../../src/store/check-store.ts';
import type { Collection } from '../../../src/store/collect-garbage.ts';
import { collectGarbage } from '../../../src/store/collect-garbage.ts';
import { HandedOutImages } from '../../../src/store/handed-out.ts';
import { objectDigest, objectPath, ObjectStore } from '../../../src/store/objects.ts';
import { UnfinishedFile } from '../../../src/store/unfinished-file.ts';
import { writeFileWhole } from '../../../src/store/write-file-whole.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

let folder: string;
let store: ObjectStore;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-store-'));
  store = ObjectStore.create(join(folder, 'store'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function add(contents: string | Uint8Array): Promise<string> {
  const path = join(folder, 'contents');
  writeFileSync(path, contents);
  return objectPath((await store.addFile(path)).digest);
}

describe('paths of objects', () => {
  test('the digest’s digits with a slash after two, and back', () => {
    const digest = verityDigest(Buffer.from('x'));
    const path = objectPath(digest);
    expect(path).toMatch(/^[0-9a-f]{2}\/[0-9a-f]{62}$/);
    expect(objectDigest(path)).toBe(digest);
  });

  test.each([
    '',
    'ab',
    '../etc/passwd',
    `ab/${'0'.repeat(61)}`,
    `AB/${'0'.repeat(62)}`,
    `ab/${'0'.repeat(62)}\n`,
  ])('%j is the path of none', (path) => {
    expect(objectDigest(path)).toBeUndefined();
  });
});

describe('adding', () => {
  test.each([1, 4096, 4097, 1024 * 1024, 3 * 1024 * 1024 + 17])('a file of %d bytes', async (size) => {
    const contents = Buffer.alloc(size, 'abcdefg');
    const path = await add(contents);
    expect(path).toBe(objectPath(verityDigest(contents)));
    expect(readFileSync(join(store.path, path)).equals(contents)).toBe(true);
    expect(statSync(join(store.path, path)).mode & 0o777).toBe(0o644);
  });

  test('the same contents again change nothing', async () => {
    const path = await add('twice');
    const before = statSync(join(store.path, path), { bigint: true });
    expect((await store.addFile(join(folder, 'contents'))).isNew).toBe(false);
    expect(statSync(join(store.path, path), { bigint: true })).toMatchObject({
      ino: before.ino,
      ctimeNs: before.ctimeNs,
    });
    expect(readdirSync(store.path)).toEqual([path.slice(0, 2)]);
  });

  test('two stores on one directory at once: each object once, whole', async () => {
    const paths = Array.from({ length: 20 }, (_, index) => {
      const path = join(folder, String(index));
      writeFileSync(path, Buffer.alloc(200_000, `file ${index}, `));
      return path;
    });
    const stores = [store, ObjectStore.open(store.path), ObjectStore.open(store.path)];
    const results = await Promise.all(stores.flatMap((one) => paths.map((path) => one.addFile(path))));
    expect(results.filter(({ isNew }) => isNew)).toHaveLength(20);
    await Promise.all(stores.map((one) => one.sync()));
    expect(await checkStore(store.path)).toMatchObject({ objects: 20, problems: [] });
  });

  test('contents that have another digest than they should are not added', async () => {
    writeFileSync(join(folder, 'wrong'), 'wrong');
    const fd = openSync(join(folder, 'wrong'), 'r');
    try {
      await expect(store.add(fd, verityDigest(Buffer.from('right')))).rejects.toThrow(
        /the contents have the digest/,
      );
    } finally {
      closeSync(fd);
    }
    expect(readdirSync(store.path)).toEqual([]);
  });

  test('a damaged object of the same name is not taken for whole', async () => {
    const path = await add('contents of some length');
    writeFileSync(join(store.path, path), 'cut');
    await expect(store.addFile(join(folder, 'contents'))).rejects.toThrow(
      /the object in the store is damaged/,
    );
  });

  test('what is no regular file is refused', async () => {
    await expect(store.addFile(folder)).rejects.toThrow('not a regular file');
    await expect(store.addFile('/dev/null')).rejects.toThrow('not a regular file');
  });
});

test('missing names what is not there', async () => {
  const path = await add('there');
  const other = objectPath(verityDigest(Buffer.from('not there')));
  expect(store.has(path)).toBe(true);
  expect(store.missing([other, path])).toEqual([other]);
});

test('a store is made with the directories above it, and not where there can be none', () => {
  expect(ObjectStore.create(join(folder, 'a', 'b', 'c')).missing(['x'])).toEqual(['x']);
  writeFileSync(join(folder, 'file'), '');
  expect(() => ObjectStore.create(join(folder, 'file'))).toThrow(/a store is a directory/);
  expect(() => ObjectStore.create(join(folder, 'file', 'store'))).toThrow(/ENOTDIR/);
  expect(() => ObjectStore.create('/proc/self/none/store')).toThrow(/ENOENT/);
});

test('opening what is no store says so', () => {
  expect(() => ObjectStore.open(join(folder, 'none'))).toThrow(/none: there is no such store/);
  writeFileSync(join(folder, 'file'), '');
  expect(() => ObjectStore.open(join(folder, 'file'))).toThrow(/file: a store is a directory/);
});

describe('checking', () => {
  test('names every object that is not what its name says, and what is no object', async () => {
    const good = await add('good'.repeat(100));
    const flipped = await add('flipped'.repeat(100));
    const bytes = readFileSync(join(store.path, flipped));
    bytes[3] = (bytes[3] ?? 0) ^ 1;
    writeFileSync(join(store.path, flipped), bytes);
    writeFileSync(join(store.path, 'README'), 'what is this');
    writeFileSync(join(store.path, good.slice(0, 2), 'notes'), '');
    const report = await checkStore(store.path);
    expect(report).toMatchObject({ objects: 1, bytes: 400 });
    expect(report.problems.map(({ path }) => path).sort()).toEqual(
      ['README', `${good.slice(0, 2)}/notes`, flipped].sort(),
    );
    expect(report.problems.find(({ path }) => path === flipped)?.problem).toMatch(/^damaged: /);
  });

  test('passes over what is being written', async () => {
    writeFileSync(join(store.path, '.tmp-0011'), 'half');
    expect(await checkStore(store.path)).toEqual({ objects: 0, bytes: 0, verityObjects: 0, problems: [] });
  });
});

describe('collecting garbage', () => {
  function collection(changes: Partial<Collection>): Collection {
    return {
      ...{ images: [], handedOut: new HandedOutImages(folder), mounted: () => new Set() },
      ...{ now: Date.now(), dryRun: false, unknownMounts: 'refuse' },
      ...changes,
    };
  }

  test('removes what is not needed and nothing else', async () => {
    const [kept, removed] = [await add('kept'), await add('removed')];
    writeFileSync(join(store.path, 'README'), 'stays');
    const images = [{ digest: verityDigest(Buffer.from('an image')), objects: [kept] }];
    const dry = await collectGarbage(store.path, collection({ images, dryRun: true }));
    expect(dry).toEqual({ removed: [removed], bytes: 7, kept: 1 });
    expect(store.has(removed)).toBe(true);
    expect(await collectGarbage(store.path, collection({ images }))).toEqual(dry);
    expect(store.has(removed)).toBe(false);
    expect(store.missing([kept, 'README'])).toEqual([]);
  });

  test('removes what a writer left a day ago, and not what one is writing', async () => {
    writeFileSync(join(store.path, '.tmp-old'), '');
    writeFileSync(join(store.path, '.tmp-new'), '');
    utimesSync(join(store.path, '.tmp-old'), 1, 1);
    const { removed } = await collectGarbage(store.path, collection({}));
    expect(removed).toEqual(['.tmp-old']);
    expect(readdirSync(store.path)).toEqual(['.tmp-new']);
  });
});

describe('files on their way', () => {
  test('leave nothing where they are not published', async () => {
    {
      using file = await UnfinishedFile.create(folder);
      writeFileSync(file.fd, 'half');
    }
    expect(readdirSync(folder)).toEqual(['store']);
  });

  test('replace another file whole', async () => {
    const path = join(folder, 'image');
    await writeFileWhole(path, Buffer.from('first and longer'), { verity: false });
    await writeFileWhole(path, Buffer.from('second'), { verity: false });
    expect(readFileSync(path, 'utf8')).toBe('second');
    expect(readdirSync(folder).sort()).toEqual(['image', 'store']);
  });

  test('say where they cannot be written', async () => {
    await expect(
      writeFileWhole(join(folder, 'none', 'image'), Buffer.from(''), { verity: false }),
    ).rejects.toThrow(/ENOENT/);
  });
});
