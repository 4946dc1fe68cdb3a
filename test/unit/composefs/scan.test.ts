import { describe, expect, test } from 'vitest';
import { crc32c } from '../../../src/composefs/crc32c.ts';
import { ImageError, IncompatibleImage } from '../../../src/composefs/errors.ts';
import { readTree } from '../../../src/composefs/read.ts';
import { scanImage } from '../../../src/composefs/scan.ts';
import { locate } from '../../support/image-edit.ts';
import { imageOf, objectOf } from '../../support/trees.ts';

const superblock = 1024;
const object = objectOf('ab');
const other = objectOf('cd');

const fileLine = (name: string, path: string, hex: string): string =>
  `/${name} 1000 100644 1 0 0 0 0.0 ${path} - ${hex}`;

describe('what is found', () => {
  test('objects, each once, with their digests', () => {
    const scan = scanImage(
      imageOf(
        fileLine('a', object.path, object.hex),
        fileLine('b', other.path, other.hex),
        fileLine('c', object.path, object.hex),
        '/d 5 100644 1 0 0 0 0.0 - hello -',
      ),
    );
    expect(Object.fromEntries(scan.objects.map((path, index) => [path, scan.objectDigests[index]]))).toEqual({
      [object.path]: `sha256:${object.hex}`,
      [other.path]: `sha256:${other.hex}`,
    });
    // The root, four files, and 256 names that hide the store.
    expect(scan).toMatchObject({
      fileSystem: 'composefs',
      formatVersion: 1,
      inodes: 261,
      missingDigest: false,
    });
  });

  test('an object that no digest vouches for', () => {
    const scan = scanImage(imageOf(fileLine('a', object.path, '-')));
    expect(scan).toMatchObject({ objects: [object.path], objectDigests: [undefined], missingDigest: true });
  });

  test("names as OSTree's stores have them", () => {
    expect(scanImage(imageOf(fileLine('a', `${object.path}.file`, '-'))).objects).toEqual([
      `${object.path}.file`,
    ]);
  });

  test('a file without data of its own needs no object', () => {
    const scan = scanImage(imageOf('/a 9007199254740992 100644 1 0 0 0 0.0 - - -'));
    expect(scan).toMatchObject({ objects: [], missingDigest: false });
  });

  test('a hard link is one inode', () => {
    expect(
      scanImage(imageOf('/a 0 100644 2 0 0 0 0.0 - - -', '/b 0 @100644 2 0 0 0 0.0 /a - -')).inodes,
    ).toBe(258);
  });

  test.each([
    ['/d/e 0 20666 1 0 0 259 0.0 - - -', '/d/e'],
    ['/d/e 0 60666 1 0 0 0 0.0 - - -', '/d/e'],
    ['/d/\\xff\\x20 0 60666 1 0 0 5 0.0 - - -', '/d/\xff '],
  ])('a device node: %s', (line, devicePath) => {
    expect(scanImage(imageOf('/d 0 40755 2 0 0 0 0.0 - - -', line))).toMatchObject({
      devices: true,
      devicePath,
    });
  });

  test.each([
    '/e 0 20666 1 0 0 0 0.0 - - -',
    '/e 0 10666 1 0 0 5 0.0 - - -',
    '/e 0 140666 1 0 0 5 0.0 - - -',
  ])('no device node: %s', (line) => {
    expect(scanImage(imageOf(line))).toMatchObject({ devices: false, devicePath: undefined });
  });

  test('plain EROFS is what has no composefs header', () => {
    const image = imageOf(fileLine('a', object.path, object.hex)).fill(0, 0, 32);
    expect(scanImage(image)).toMatchObject({
      fileSystem: 'erofs',
      formatVersion: undefined,
      objects: [],
      inodes: 258,
    });
  });
});

describe('redirects that lead anywhere but into a store are refused', () => {
  test.each([
    '../../etc/shadow',
    '/etc/shadow',
    'etc/shadow',
    'ab/cd',
    `${object.path}/x`,
    `${object.path}.x`,
    `x${object.path}`,
    object.path.toUpperCase(),
    `../${object.path}`,
    object.path.replace('/', '//'),
  ])('%s', (path) => {
    expect(() => scanImage(imageOf(fileLine('a', path, object.hex)))).toThrow(IncompatibleImage);
  });

  test('even where it is thousands of bytes long, and then it is not told in full', () => {
    const image = imageOf(fileLine('a', 'x'.repeat(4000), object.hex));
    expect(() => scanImage(image)).toThrow(/is redirected to "\/x{70}", which is no object of a store/);
  });

  test('a redirected directory', () => {
    const image = imageOf('/d 0 40755 2 0 0 0 0.0 - - - trusted.aaaaaaa.redirect=/x');
    image.write('overlay', image.indexOf('aaaaaaa.redirect'));
    expect(() => scanImage(image)).toThrow(/is redirected elsewhere/);
  });

  test('a redirect on a file that is no metacopy', () => {
    const image = imageOf('/f 0 100644 1 0 0 0 0.0 - - - trusted.aaaaaaa.redirect=/x');
    image.write('overlay', image.indexOf('aaaaaaa.redirect'));
    expect(() => scanImage(image)).toThrow(/is redirected without being a metacopy/);
  });

  test('two redirects on one file', () => {
    const image = imageOf(`${fileLine('a', object.path, object.hex)} trusted.aaaaaaa.redirect=/x`);
    image.write('overlay', image.indexOf('aaaaaaa.redirect'));
    expect(() => scanImage(image)).toThrow(/has an attribute of overlayfs twice/);
  });

  test('two digests for one object', () => {
    const image = imageOf(fileLine('a', object.path, object.hex), fileLine('b', object.path, other.hex));
    expect(() => scanImage(image)).toThrow(/two files give different digests/);
  });
});

describe('a metacopy attribute', () => {
  const image = imageOf(fileLine('a', object.path, object.hex));
  const value = image.indexOf(Buffer.from(object.hex, 'hex')) - 4;
  test.each([
    ['version', 0, 1, ImageError],
    ['length', 1, 35, ImageError],
    ['flags', 2, 1, ImageError],
    ['algorithm', 3, 2, IncompatibleImage],
  ])('with another %s is refused', (_, index, byte, error) => {
    const changed = Buffer.from(image);
    changed[value + index] = byte;
    expect(() => scanImage(changed)).toThrow(error);
  });
});

describe('the superblock', () => {
  const sound = imageOf('/a 5 100644 1 0 0 0 0.0 - hello -');
  const changed = (change: (image: Buffer) => void): Buffer => {
    const image = Buffer.from(sound);
    change(image);
    return image;
  };
  test.each([
    [(i: Buffer) => i.writeUInt32LE(0, superblock), ImageError, 'there is no EROFS superblock'],
    [(i: Buffer) => i.writeUInt8(9, superblock + 12), IncompatibleImage, 'blocks have 2^9 bytes'],
    // The kernel reads the table without the feature's bit, too.
    [(i: Buffer) => i.writeUInt8(1, superblock + 91), IncompatibleImage, 'long attribute prefixes'],
    [
      (i: Buffer) => i.writeUInt32LE(2, 4),
      IncompatibleImage,
      'the composefs header has the unknown version 2',
    ],
    [(i: Buffer) => i.writeUInt32LE(6, 8), IncompatibleImage, 'the composefs header has unknown flags 0x6'],
    [(i: Buffer) => i.writeUInt32LE(9, 12), IncompatibleImage, 'composefs format version 9 is unknown'],
    [
      (i: Buffer) => i.writeUInt32LE(0x180, superblock + 80),
      IncompatibleImage,
      '48-bit addresses, metadata box',
    ],
    [(i: Buffer) => i.writeUInt32LE(0x80000000, superblock + 80), IncompatibleImage, 'bit 31'],
    [(i: Buffer) => i.writeUInt32LE(2, superblock + 80), IncompatibleImage, 'compression'],
    [(i: Buffer) => i.writeUInt32LE(0x10, superblock + 8), IncompatibleImage, 'unknown compatible features'],
    [
      (i: Buffer) => i.writeUInt16LE(3, superblock + 86),
      IncompatibleImage,
      'the image needs 3 further devices',
    ],
    [
      (i: Buffer) => i.writeUInt8(1, superblock + 90),
      IncompatibleImage,
      'directory blocks are not of 4096 bytes',
    ],
    [(i: Buffer) => i.writeUInt32LE(1000, superblock + 36), ImageError, 'before its 1000 blocks'],
    [(i: Buffer) => i.writeUInt16LE(60000, superblock + 14), ImageError, 'lies beyond the end of the image'],
    [
      (i: Buffer) => i.writeUInt32LE(0xffffffff, superblock + 40),
      ImageError,
      'lies beyond the end of the image',
    ],
    [
      (i: Buffer) => i.writeUInt16LE(locate(i, '/a').inode.nid, superblock + 14),
      ImageError,
      'the root is not a directory',
    ],
  ])('case %# is refused', (change, error, reason) => {
    const image = changed(change);
    expect(() => scanImage(image)).toThrow(error);
    expect(() => scanImage(image)).toThrow(reason);
    expect(() => readTree(image)).toThrow(reason);
  });

  test('plain EROFS may be compressed, and needs its checksum where it has one', () => {
    const image = changed((i) => {
      i.fill(0, 0, 32);
      i.writeUInt32LE(0x3, superblock + 80);
      i.writeUInt32LE(0x7, superblock + 8);
    });
    expect(() => scanImage(image)).toThrow("the superblock's checksum is wrong");
    image.writeUInt32LE(crc32c(image.subarray(superblock, 4096)), superblock + 4);
    expect(scanImage(image).fileSystem).toBe('erofs');
  });
});

describe('a tree that is none', () => {
  const lines = [
    '/d 0 40755 2 0 0 0 0.0 - - -',
    '/d/e 0 40755 2 0 0 0 0.0 - - -',
    '/d/f 5 100644 1 0 0 0 0.0 - hello -',
  ];
  const sound = imageOf(...lines);
  const pointing = (from: string, to: string): Buffer => {
    const image = Buffer.from(sound);
    image.writeBigUInt64LE(BigInt(locate(sound, to).inode.nid), locate(sound, from).direntOffset);
    return image;
  };
  test.each([
    ['a directory that holds its parent', pointing('/d/e', '/d'), 'is reached by two ways'],
    ['a directory that holds the root', pointing('/d/e', '/'), 'is reached by two ways'],
    ['a directory with two names', pointing('/d/f', '/d/e'), 'is reached by two ways'],
    ['a "." that is another', pointing('/d/.', '/d/e'), '"." is another directory'],
    ['a ".." that is another', pointing('/d/..', '/d/e'), '".." is another directory'],
  ])('%s', (_, image, reason) => {
    expect(() => scanImage(image)).toThrow(reason);
  });

  test.each([2n ** 64n - 1n, 2n ** 63n, 2n ** 59n + 36n, 2n ** 32n, 10_000n])('an inode number %s', (nid) => {
    const image = Buffer.from(sound);
    image.writeBigUInt64LE(nid, locate(sound, '/d/f').direntOffset);
    expect(() => scanImage(image)).toThrow('lies beyond the end of the image');
    expect(() => readTree(image)).toThrow('lies beyond the end of the image');
  });

  test.each([
    ['a slash', '/', 'a name holds "/" or a zero byte'],
    ['a zero byte', '\0', 'a name'],
    ['names out of order', '!', "a directory's names are not in order"],
    ['the same name twice', 'e', "a directory's names are not in order"],
  ])('%s in a name', (_, byte, reason) => {
    const image = Buffer.from(sound);
    image.write(byte, locate(sound, '/d/f').nameOffset, 'latin1');
    expect(() => scanImage(image)).toThrow(reason);
    expect(() => readTree(image)).toThrow(reason);
  });

  test.each([0, 1, 11, 13, 4092, 65535])('a count of names of %i bytes', (bytes) => {
    const image = Buffer.from(sound);
    image.writeUInt16LE(bytes, locate(sound, '/d/.').direntOffset + 8);
    expect(() => scanImage(image)).toThrow(ImageError);
    expect(() => readTree(image)).toThrow(ImageError);
  });

  test.each([
    ['mode', 4, 0, 'has the invalid mode'],
    ['format', 0, 0x20, 'has the unknown format'],
    ['layout', 0, 10, 'has the unknown data layout 5'],
    ['layout', 0, 2, 'is compressed, which composefs does not do'],
    ['attributes', 2, 0xffff, 'crosses the end of the image'],
    ['size', 8, 0xffff, 'crosses the end of a block'],
  ])('a file whose %s is wrong', (_, field, value, reason) => {
    const image = Buffer.from(sound);
    image.writeUInt16LE(value, locate(sound, '/d/f').inode.offset + field);
    expect(() => scanImage(image)).toThrow(reason);
  });

  test('directories that all claim the same bytes', () => {
    const names = Array.from({ length: 60 }, (_, index) => `/${index + 100} 0 40755 2 0 0 0 0.0 - - -`);
    const image = imageOf(...names, '/x 4096 100644 1 0 0 0 0.0 - '.concat('y'.repeat(4096), ' -'));
    const blocks = locate(image, '/').inode;
    for (let index = 0; index < 60; index++) {
      const { offset } = locate(image, `/${index + 100}`).inode;
      image.writeUInt16LE(0, offset);
      image.writeUInt32LE(4096, offset + 8);
      image.writeUInt32LE(blocks.union, offset + 16);
    }
    expect(() => scanImage(image)).toThrow(ImageError);
  });
});
