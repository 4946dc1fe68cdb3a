import { closeSync, openSync, readSync } from 'node:fs';
import { toHex } from '../base/bytes.ts';
import type { FileSystem } from '../trust/file-system.ts';

/** Magic numbers as they lie in the file, little-endian where they are numbers; the first that fits counts. */
const magics: readonly (readonly [FileSystem, offset: number, hex: string])[] = [
  ['composefs', 0, '9a6278d0'], // LCFS_EROFS_MAGIC, before the EROFS superblock
  ['erofs', 1024, 'e2e1f5e0'],
  ['squashfs', 0, '68737173'],
  ['xfs', 0, '58465342'],
  ['ext4', 1080, '53ef'],
  ['btrfs', 0x10040, '5f42485266535f4d'],
  ['ddi', 512, '4546492050415254'], // the header of a GPT
];

const headBytes = 0x10048;

/** Which filesystem the file at `path` looks like, or undefined. Throws what node:fs throws. */
export function recogniseFileSystem(path: string): FileSystem | undefined {
  const head = Buffer.alloc(headBytes);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  return fileSystemOfBytes(head);
}

/** Which filesystem an image looks like, or undefined; its first 65,608 bytes are enough. */
export function fileSystemOfBytes(image: Uint8Array): FileSystem | undefined {
  const found = magics.find(
    ([, offset, hex]) => toHex(image.subarray(offset, offset + hex.length / 2)) === hex,
  );
  return found?.[0];
}
