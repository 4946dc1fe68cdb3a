import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readDirents } from '../../src/composefs/directory.ts';
import { parseDump } from '../../src/composefs/dump.ts';
import { formatDump } from '../support/format-dump.ts';
import { dumpImage } from '../../src/composefs/dump-image.ts';
import { DumpError, ImageError } from '../../src/composefs/errors.ts';
import { flatPieces, readInode } from '../../src/composefs/inode.ts';
import { readXattrs } from '../../src/composefs/inode-xattrs.ts';
import { readTree } from '../../src/composefs/read.ts';
import { scanImage } from '../../src/composefs/scan.ts';
import { openImage } from '../../src/composefs/superblock.ts';
import type { Tree } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { Random } from '../support/random.ts';
import { imageOf, objectOf } from '../support/trees.ts';

const { path, hex } = objectOf('ab');

const lines = [
  '/a 0 10644 1 1 2 0 3.4 - - -',
  '/b 0 60660 1 0 6 2048 0.0 - - - user.common=1',
  '/big 9007199254740992 100644 1 0 0 0 0.0 - - -',
  '/d 40 41777 2 70000 80000 0 1.5 - - - user.common=1 security.selinux=label',
  '/d/e 40 40755 2 0 0 0 0.0 - - - user.common=1',
  `/d/external 100000 100755 2 0 0 0 9.9 ${path} - ${hex} security.capability=\\x01\\x02`,
  '/d/w 0 20000 1 0 0 0 0.0 - - -',
  `/hard 100000 @100755 2 0 0 0 9.9 /d/external - ${hex}`,
  '/link 6 120777 1 0 0 0 0.0 target - -',
  '/small 5 100644 1 0 0 0 0.0 - hello - user.common=1',
  `/large 4097 100644 1 0 0 0 0.0 - ${'l'.repeat(4097)} -`,
];

// CFS_FUZZ_SEED says which changes are tried, CFS_FUZZ_ROUNDS how many times as many as in CI.
const rounds = Number(process.env['CFS_FUZZ_ROUNDS'] ?? '1');

/** A generator of its own for each test: failures repeat with the seed that they name. Gives 0 to 2^32 - 1. */
function generator(salt: number): () => number {
  const random = new Random(salt);
  return () => random.below(2 ** 32);
}

/** Run on bytes that may be anything: there is a result, or an error of ours; every other error is a bug. */
function attempt<Result>(run: () => Result): Result | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof ImageError) {
      expect(error.reason).not.toBe('');
      expect(error.offset).toBeGreaterThanOrEqual(0);
      return undefined;
    }
    throw error;
  }
}

function tryAll(image: Uint8Array): void {
  const scan = attempt(() => scanImage(image));
  if (scan !== undefined) expect(scan.inodes).toBeLessThanOrEqual(image.length / 32);
  const tree = attempt(() => readTree(image));
  const dump = attempt(() => dumpImage(image));
  // Both read the same: what one of them refuses the other does; but only the dump needs content that is stored in another form.
  if (tree === undefined || !hasStored(tree)) expect(dump === undefined).toBe(tree === undefined);
}

function hasStored({ root }: Tree): boolean {
  const folders = [root];
  for (const folder of folders) {
    for (const entry of folder.entries.values()) {
      if (entry.type === 'directory') folders.push(entry);
      else if (entry.type === 'file' && entry.content.kind === 'stored') return true;
    }
  }
  return false;
}

/** Every 16-bit field that decides how the image is read: superblock, inodes, entries, attributes. */
function fieldsOf(bytes: Uint8Array): number[] {
  const image = openImage(bytes);
  const fields = Array.from({ length: 64 }, (_, index) => 1024 + 2 * index);
  const nids = new Set([image.rootNid]);
  for (const nid of nids) {
    const inode = readInode(image, nid);
    for (let field = 0; field < 32; field += 2) fields.push(inode.offset + field);
    for (let field = 0; field < inode.xattrBytes; field += 2) fields.push(inode.xattrOffset + field);
    for (const xattr of readXattrs(image, inode)) fields.push(xattr.nameOffset - 4, xattr.nameOffset - 2);
    if ((inode.mode & 0o170000) !== 0o040000) continue;
    for (const { offset, bytes: length } of flatPieces(image, inode)) {
      for (let field = 0; field < Math.min(length, 400); field += 2) fields.push(offset + field);
    }
    for (const dirent of readDirents(image, inode)) nids.add(dirent.nid);
  }
  return fields.map((field) => field - (field % 2));
}

test('an image that ends early is refused, wherever it ends', () => {
  const image = imageOf(...lines);
  for (let length = 0; length < image.length; length++) {
    expect(() => scanImage(image.subarray(0, length))).toThrow(ImageError);
    expect(() => readTree(image.subarray(0, length))).toThrow(ImageError);
  }
});

test('an image that ends early and claims to be that short gives a result or an error', () => {
  const image = imageOf(...lines);
  for (let blocks = 0; blocks * 4096 <= image.length; blocks++) {
    for (const extra of [0, 1, 33, 2047]) {
      const short = Buffer.from(image.subarray(0, blocks * 4096 + extra));
      if (short.length >= 4096) short.writeUInt32LE(0, 1024 + 36);
      tryAll(short);
    }
  }
});

// Bits (byte and bit in it) whose flips made the readers differ once.
test.each([
  ['attributes of a folder that only hides the store have no end', [[7299, 4]]],
  ['composefs becomes plain EROFS, with a file in chunks', [[2, 1]]],
] as const)('a failure that was found: %s', (_what, flips) => {
  const changed = Buffer.from(imageOf(...lines));
  for (const [offset, bit] of flips) changed[offset] = (changed[offset] ?? 0) ^ (1 << bit);
  expect(attempt(() => readTree(changed))).toBeDefined();
  tryAll(changed);
});

test('random flips', () => {
  const image = imageOf(...lines);
  const random = generator(1);
  for (let round = 0; round < 1500 * rounds; round++) {
    const changed = Buffer.from(image);
    for (let flips = 1 + (random() % 8); flips > 0; flips--) {
      const offset = random() % image.length;
      changed[offset] = (changed[offset] ?? 0) ^ (1 << (random() % 8));
    }
    tryAll(changed);
  }
});

test('fields of the format with other values', () => {
  const image = imageOf(...lines);
  const fields = fieldsOf(image);
  const random = generator(2);
  const values = [
    0, 1, 2, 4, 11, 12, 31, 36, 0x7f, 0x80, 0xff, 0xfff, 0x1000, 0x41ed, 0x7fff, 0x8000, 0xfffe, 0xffff,
  ];
  for (let round = 0; round < 3000 * rounds; round++) {
    const changed = Buffer.from(image);
    for (let changes = 1 + (random() % 3); changes > 0; changes--) {
      const field = fields[random() % fields.length] ?? 0;
      const near = changed.readUInt16LE(field) + (random() % 5) - 2;
      const value = random() % 3 === 0 ? near & 0xffff : (values[random() % values.length] ?? 0);
      changed.writeUInt16LE(value, field);
    }
    tryAll(changed);
  }
});

test('bytes that are random behind a sound superblock', () => {
  const image = imageOf(...lines);
  const random = generator(3);
  for (let round = 0; round < 300 * rounds; round++) {
    const changed = Buffer.from(image);
    for (let offset = 1152; offset + 4 <= changed.length; offset += 4) {
      if (random() % 4 === 0) changed.writeUInt32LE(random(), offset);
    }
    tryAll(changed);
  }
});

test('a dump with other bytes is parsed or refused with a line; what is parsed is written and read again', () => {
  const text = ['/ 4096 40755 3 0 0 0 0.0 - - -', ...lines, ''].join('\n');
  const random = generator(4);
  const interesting = '/\\ \n=-@.0x19a\0\xff';
  for (let round = 0; round < 2000 * rounds; round++) {
    const changed = Buffer.from(text, 'latin1');
    for (let changes = 1 + (random() % 3); changes > 0; changes--) {
      // Mostly not in the long line of content, where little can go wrong.
      const offset = random() % (random() % 8 === 0 ? changed.length : 900);
      changed[offset] = interesting.charCodeAt(random() % interesting.length);
    }
    let tree;
    try {
      tree = parseDump(changed);
    } catch (error) {
      if (error instanceof DumpError) continue;
      throw error;
    }
    const image = writeImage(tree, { minVersion: 1, maxVersion: 1 });
    const dump = formatDump(readTree(image));
    const again = writeImage(parseDump(dump), { minVersion: 1, maxVersion: 1 });
    expect(Buffer.compare(formatDump(readTree(again)), dump)).toBe(0);
  }
});

/** Two files with attributes of one long prefix, as mkfs.erofs 1.9 makes them, gzipped: in chunks, and compressed. */
const plainImages = [
  [
    'in chunks',
    'H4sIAAAAAAACA+2aQUvDMBiGv6wTxhheBM+TWRwIwTnB88A/Mling7IOqbij3vwh/jC3u+zkUbKUpl0tzuFBZNvzQJ58acLb' +
      'tNBCoSIAsK/MZx9vSX9sW0N8qX6z5uAXeTerUjXV5vWHovo6jMa3enIfDEfT8nyyn/eeJ9dubCzFWN/1F1LJ646t267u2vrc' +
      '1VeiRGs9iKdxKX+1PsmvFPKz46eFfN/W2tVnaebDuuur2TO8Pitpt9LxiW1eYd6YT5Pv5clmReOgk91A13s/3L8s/+UoHTfd' +
      'NeX5C/M1P36MLkv5VR4DAAAAgL3hLgjDqI4xxhhjjDHGGGOMMcYYY4wxxhhjjPFumz+FAAAAAABg2+HbDuP/N28iAAAAAAD4' +
      'a5YvkRLjAFAAAA==',
  ],
  [
    'compressed',
    'H4sIAAAAAAACA+3ZQUrDQBTG8TeNdCFSBMF1QYOF4mBVcN0b9AqC0QqhUyRiN4LuehAPpu7FlUsZX9KxSYOluBP7/0HIm+Tl' +
      'yyQhm0QEwLp6ffl4zte7umxJLBs/9ES/yOvr4n1RmrZZ3d8Sc25TN7qy45vk8npS35/P560fyVkYe1WNjcP6SBrzuqd1J9Qn' +
      'WndDfSpGrLUX2SSr5Zf9eX6jkv+9fb+SH2ttQ30wy7xddn1NPcPTo5HO3mxsavfT+08/n8uDZrlR0pOyV7ZNu5hHFMZL8qc7' +
      '5THVZ+jf/WJ+dueOF/KnkeE1AAAAAAAAAAAA+JvcMElTt9ks/mKtcDgoerlpAAAAAAD84+8B9wPdM0y+ACZtCfAAMAAA',
  ],
] as const;

test.each(plainImages)('plain EROFS, %s, with other values in the fields of the format', (_form, base64) => {
  const image = gunzipSync(Buffer.from(base64, 'base64'));
  const fields = [...fieldsOf(image), ...Array.from({ length: 300 }, (_, index) => 1152 + 2 * index)];
  const random = generator(5);
  expect(attempt(() => readTree(image))).toBeDefined();
  for (let round = 0; round < 1000 * rounds; round++) {
    const changed = Buffer.from(image);
    for (let changes = 1 + (random() % 3); changes > 0; changes--)
      changed.writeUInt16LE(
        random() % 2 === 0 ? random() % 64 : random() & 0xffff,
        fields[random() % fields.length] ?? 0,
      );
    attempt(() => scanImage(changed));
    attempt(() => readTree(changed));
    attempt(() => dumpImage(changed, 1 << 20));
  }
});
