import { describe, expect, test } from 'vitest';
import { formatDump } from '../../support/format-dump.ts';
import { TreeError } from '../../../src/composefs/errors.ts';
import { readTree } from '../../../src/composefs/read.ts';
import type { Directory, Entry, InodeAttributes, RegularFile, Tree } from '../../../src/composefs/tree.ts';
import type { WriteOptions } from '../../../src/composefs/write.ts';
import { chooseFormatVersion, writeImage } from '../../../src/composefs/write.ts';
import { treeOf } from '../../support/trees.ts';

const version1: WriteOptions = { minVersion: 1, maxVersion: 1 };

const attributes: InodeAttributes = {
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0n, nanoseconds: 0 },
  xattrs: [],
};

function file(bytes: string): RegularFile {
  const content = Buffer.from(bytes);
  return {
    ...attributes,
    type: 'file',
    size: content.length,
    content: { kind: 'inline', bytes: content },
    nlink: 1,
  };
}

function directory(entries: Readonly<Record<string, Entry>>): Directory {
  return { ...attributes, mode: 0o755, type: 'directory', entries: new Map(Object.entries(entries)) };
}

function treeWith(entries: Readonly<Record<string, Entry>>): Tree {
  return { root: directory(entries) };
}

describe('the format version', () => {
  const whiteout = treeOf('/d 0 40755 2 0 0 0 0.0 - - -', '/d/w 0 20000 1 0 0 0 0.0 - - -');
  const plain = treeOf('/null 0 20666 1 0 0 259 0.0 - - -');
  test.each([
    [whiteout, 0, 1, 1],
    [whiteout, 0, 0, 0],
    [whiteout, 1, 0, 1],
    [plain, 0, 1, 0],
    [plain, 1, 1, 1],
  ] as const)(
    'case %#: between the least and the greatest as the tree needs it',
    (tree, minVersion, maxVersion, version) => {
      expect(chooseFormatVersion(tree, { minVersion, maxVersion })).toBe(version);
      expect(Buffer.from(writeImage(tree, { minVersion, maxVersion })).readUInt32LE(12)).toBe(version);
    },
  );
});

test('the image does not depend on the order of entries and attributes', () => {
  const xattrs = [
    { name: 'user.b', value: Buffer.from('1') },
    { name: 'user.a', value: Buffer.from('2') },
  ];
  const one = treeWith({ b: { ...file('x'), xattrs }, a: directory({}) });
  const two = treeWith({ a: directory({}), b: { ...file('x'), xattrs: [...xattrs].reverse() } });
  expect(Buffer.compare(writeImage(one, version1), writeImage(two, version1))).toBe(0);
});

test('an inode that is reached twice is written once, as with an explicit link', () => {
  const shared = { ...file('shared'), nlink: 2 };
  const twice = writeImage(treeWith({ a: shared, b: shared }), version1);
  const linked = writeImage(treeWith({ a: shared, b: { type: 'link', target: shared } }), version1);
  expect(Buffer.compare(twice, linked)).toBe(0);
  const entries = readTree(twice).root.entries;
  expect(entries.get('b')).toEqual({ type: 'link', target: entries.get('a') });
});

test("the store's folders are hidden only where the tree has no such name", () => {
  const image = writeImage(treeWith({ '00': file('mine') }), version1);
  expect([...readTree(image).root.entries.keys()]).toEqual(['00']);
});

test('an ACL sets the flag of the header', () => {
  const flags = (name: string): number => {
    const tree = treeWith({ a: { ...file('x'), xattrs: [{ name, value: Buffer.from('\x02') }] } });
    return Buffer.from(writeImage(tree, version1)).readUInt32LE(8);
  };
  expect([flags('system.posix_acl_access'), flags('system.posix_acl_default'), flags('user.acl')]).toEqual([
    1, 1, 0,
  ]);
});

test('a directory with many names goes over several blocks and keeps them all', () => {
  const names = Array.from({ length: 2000 }, (_, index) => `name-${index}`);
  const tree = treeWith(Object.fromEntries(names.map((name) => [name, file(name)])));
  const back = readTree(writeImage(tree, version1));
  expect([...back.root.entries.keys()]).toEqual([...names].sort());
});

test('sizes of content around the limits of tails and blocks come back whole', () => {
  const sizes = [0, 1, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 5000];
  const entries = Object.fromEntries(sizes.map((size) => [`f${size}`, file('c'.repeat(size))]));
  const back = readTree(writeImage(treeWith(entries), version1)).root.entries;
  for (const size of sizes) {
    const entry = back.get(`f${size}`);
    expect(entry).toMatchObject({ type: 'file', size });
    const content =
      entry?.type === 'file' && entry.content.kind === 'inline' ? entry.content.bytes : undefined;
    expect(Buffer.from(content ?? []).toString()).toBe('c'.repeat(size));
  }
});

test('a tree that is 2000 directories deep is written and read', () => {
  let deepest: Entry = file('bottom');
  for (let depth = 0; depth < 2000; depth++) deepest = directory({ d: deepest });
  const tree = treeWith({ d: deepest });
  expect(Buffer.compare(formatDump(readTree(writeImage(tree, version1))), formatDump(tree))).toBe(0);
}, 60_000);

describe('what no image can hold is refused with its path', () => {
  const loop = directory({});
  const big: RegularFile = {
    ...file(''),
    size: 2 ** 53 + 2,
    content: { kind: 'external', path: undefined, digest: undefined },
  };
  test.each([
    [{ '': file('') }, '/', 'a name must not be empty'],
    [{ 'a/b': file('') }, '/a/b', 'a name must not hold "/" or a zero byte'],
    [{ '\u0100': file('') }, '/\u0100', 'a name must be a string of bytes'],
    [
      { d: directory({ f: { ...file('x'), size: 2 } }) },
      '/d/f',
      'there are 1 bytes of content for a size of 2',
    ],
    [{ f: { ...file(''), mode: 0o100644 } }, '/f', 'the mode must be permission bits'],
    [{ f: { ...file(''), uid: 2 ** 32 } }, '/f', 'the owner must be a 32-bit number'],
    [{ f: { ...file(''), nlink: -1 } }, '/f', 'the count of links must be a 32-bit number'],
    [{ f: big }, '/f', 'a file must not have more than 9007199254740992 bytes'],
    [
      { f: { ...file(''), mtime: { seconds: 0n, nanoseconds: 1e9 } } },
      '/f',
      'nanoseconds must be below a thousand million',
    ],
    [
      { f: { ...file(''), mtime: { seconds: 2n ** 63n, nanoseconds: 0 } } },
      '/f',
      'the time must fit into 64 bits',
    ],
    [{ a: loop, b: loop }, '/b', 'a directory cannot have two names'],
    [{ a: { type: 'link', target: file('x') } }, '/a', 'is a hard link to an inode outside the tree'],
  ] as const)('case %#', (entries, path, reason) => {
    expect(() => writeImage(treeWith(entries), version1)).toThrow(new TreeError(path, reason));
  });
});
