import { expect, test } from 'vitest';
import { formatDump } from '../../support/format-dump.ts';
import { readTree } from '../../../src/composefs/read.ts';
import { writeImage } from '../../../src/composefs/write.ts';
import { imageOf, objectOf, treeOf } from '../../support/trees.ts';

function dumpOf(image: Uint8Array): string[] {
  return Buffer.from(formatDump(readTree(image)))
    .toString('latin1')
    .trimEnd()
    .split('\n');
}

test('a tree comes back as it was written, in either format version', () => {
  const { path, hex } = objectOf('ab');
  const lines = [
    '/a\\xff 0 10644 1 1 2 0 3.4 - - -',
    '/big 9007199254740992 100644 1 0 0 0 0.0 - - -',
    '/d 47 41777 2 70000 80000 0 -1.5 - - -',
    `/d/external 100000 100755 2 0 0 0 9.9 ${path} - ${hex} security.capability=\\x01\\x02`,
    '/dev 0 60660 1 0 6 2048 0.0 - - -',
    `/hard 100000 @100755 2 0 0 0 9.9 /d/external - ${hex} security.capability=\\x01\\x02`,
    '/link 6 120777 1 0 0 0 0.0 target - -',
    '/overlay 0 100644 1 0 0 0 0.0 - - - trusted.overlay.redirect=/x user.overlay.redirect=/y',
    '/small 5 100644 1 0 0 0 0.0 - hello - system.posix_acl_access=\\x02\\x00 user.a=1 user.b=2',
    '/socket 0 140644 1 0 0 0 0.0 - - -',
  ];
  const tree = treeOf(...lines);
  for (const version of [0, 1] as const) {
    expect(dumpOf(writeImage(tree, { minVersion: version, maxVersion: version }))).toEqual([
      '/ 4096 40755 3 0 0 0 0.0 - - -',
      ...lines,
    ]);
  }
});

test('a whiteout of the tree is one again; its directory shows the mark that format version 1 needs', () => {
  const lines = ['/d 28 40755 2 0 0 0 0.0 - - -', '/d/w 0 20000 1 0 0 0 0.0 - - - user.a=b'];
  const root = '/ 4096 40755 3 0 0 0 0.0 - - -';
  expect(dumpOf(writeImage(treeOf(...lines), { minVersion: 0, maxVersion: 0 }))).toEqual([
    root,
    '/d 40 40755 2 0 0 0 0.0 - - -',
    '/d/w 0 20000 1 0 0 0 0.0 - - - user.a=b',
  ]);
  expect(dumpOf(imageOf(...lines))).toEqual([
    root,
    '/d 40 40755 2 0 0 0 0.0 - - - trusted.overlay.opaque=x user.overlay.opaque=x',
    '/d/w 0 20000 1 0 0 0 0.0 - - - user.a=b',
  ]);
});

test('attributes that several inodes share come after those of an inode alone, as composefs-info lists them', () => {
  const image = imageOf(
    '/a 0 100644 1 0 0 0 0.0 - - - user.common=1 user.own=a',
    '/b 0 100644 1 0 0 0 0.0 - - - user.common=1 user.own=b',
  );
  expect(dumpOf(image).slice(1)).toEqual([
    '/a 0 100644 1 0 0 0 0.0 - - - user.own=a user.common=1',
    '/b 0 100644 1 0 0 0 0.0 - - - user.own=b user.common=1',
  ]);
});

test('many inodes that share one long attribute are read up to a limit of what is copied', () => {
  const xattr = `user.${'n'.repeat(250)}=value`;
  const image = imageOf(
    ...Array.from({ length: 3000 }, (_, index) => `/${index} 0 100644 1 0 0 0 0.0 - - - ${xattr}`),
  );
  expect(readTree(image).root.entries.size).toBe(3000);
  expect(() => readTree(image, 0)).toThrow(/shares too much with others/);
});
