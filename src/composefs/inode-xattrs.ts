import { ImageError } from './errors.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import type { Image } from './superblock.ts';

/** An extended attribute in an image: its prefix by number, the rest of its name and its value by position. */
export interface RawXattr {
  readonly prefix: number;
  readonly nameOffset: number;
  readonly nameBytes: number;
  readonly valueOffset: number;
  readonly valueBytes: number;
}

function readEntry({ view }: Image, offset: number, end: number): RawXattr {
  if (offset + format.xattrEntryBytes > end)
    throw new ImageError(offset, 'an extended attribute lies outside its area');
  const nameBytes = view.getUint8(offset);
  const valueBytes = view.getUint16(offset + 2, true);
  const nameOffset = offset + format.xattrEntryBytes;
  const valueOffset = nameOffset + nameBytes;
  if (valueOffset + valueBytes > end)
    throw new ImageError(offset, 'an extended attribute crosses the end of its area');
  return { prefix: view.getUint8(offset + 1), nameOffset, nameBytes, valueOffset, valueBytes };
}

/**
 * The extended attributes of an inode in the kernel's order: those in the inode, then shared ones. Throws ImageError.
 */
export function readXattrs(image: Image, inode: InodeHead): RawXattr[] {
  if (inode.xattrBytes === 0) return [];
  const { view } = image;
  const sharedCount = view.getUint8(inode.xattrOffset + 4);
  const sharedIds = inode.xattrOffset + format.xattrHeaderBytes;
  const end = inode.xattrOffset + inode.xattrBytes;
  let offset = sharedIds + 4 * sharedCount;
  if (offset > end)
    throw new ImageError(inode.xattrOffset, `inode ${inode.nid} has too many shared attributes`);
  const xattrs: RawXattr[] = [];
  while (offset < end) {
    const entry = readEntry(image, offset, end);
    xattrs.push(entry);
    offset += format.roundUp(format.xattrEntryBytes + entry.nameBytes + entry.valueBytes, 4);
  }
  for (let id = sharedIds; id < sharedIds + 4 * sharedCount; id += 4) {
    xattrs.push(readEntry(image, image.xattrOffset + 4 * view.getUint32(id, true), view.byteLength));
  }
  return xattrs;
}

/** Whether the attribute's name is the prefix `prefix` followed by `rest`. */
export function isNamed({ bytes }: Image, xattr: RawXattr, prefix: number, rest: Uint8Array): boolean {
  if (xattr.prefix !== prefix || xattr.nameBytes !== rest.length) return false;
  for (let index = 0; index < rest.length; index++) {
    if (bytes[xattr.nameOffset + index] !== rest[index]) return false;
  }
  return true;
}

/** Bytes of an image as a view, not a copy. */
export function bytesAt({ bytes }: Image, offset: number, length: number): Buffer {
  return bytes.subarray(offset, offset + length);
}

/** Bytes of an image as a binary string. */
export function textAt({ bytes }: Image, offset: number, length: number): string {
  return bytes.toString('latin1', offset, offset + length);
}
