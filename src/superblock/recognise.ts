import type { FileSystem } from '../trust/file-system.ts';

/** Magic numbers as they lie in the file, little-endian where they are numbers; the first that fits counts. */
const magics: readonly (readonly [FileSystem, offset: number, hex: string])[] = [
  ['composefs', 0, '9a6278d0'], // LCFS_EROFS_MAGIC, before the EROFS superblock
  ['erofs', 1024, 'e2e1f5e0'],
  ['squashfs', 0, '68737173'],
  ['xfs', 0, '58465342'],
  ['ext4', 1080, '53ef'],
  ['btrfs', 0x10040, '5f42485266535f4d'],
  ['ddi', 512, '4546492050415254'], // the header of a GPT, in blocks of 512 bytes
  ['ddi', 4096, '4546492050415254'], // or of 4096
];

/** How many bytes of an image hold all that is read here of a filesystem: the superblock of btrfs lies furthest in. */
export const headBytes = 0x11000;

/**
 * Which filesystem the first headBytes bytes of an image look like, or undefined. For people alone: what is mounted is
 * what signatures and rules say, since one file can look like several.
 */
export function recogniseFileSystem(head: Uint8Array): FileSystem | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  return magics.find(
    ([, offset, hex]) => bytes.toString('hex', offset, offset + hex.length / 2) === hex,
  )?.[0];
}
