import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';
import type { Image } from './superblock.ts';

/** An inode's fixed part. Offsets are in bytes from the start of the image. */
export interface InodeHead {
  readonly nid: number;
  readonly offset: number;
  readonly compact: boolean;
  /** One of the layouts of format.ts. */
  readonly layout: number;
  /** st_mode, type and permissions; the type is a valid one. */
  readonly mode: number;
  /** Bytes of data; exact below 2^53. */
  readonly size: number;
  /** The field that is a block, a device number or a chunk format. */
  readonly union: number;
  /** Where extended attributes begin and how long they are. */
  readonly xattrOffset: number;
  readonly xattrBytes: number;
}

/** Contiguous data of an inode. */
export interface Piece {
  readonly offset: number;
  readonly bytes: number;
}

const formatKnownBits = 0xf;
const uint32 = 2 ** 32;

function checkType(mode: number, offset: number): void {
  switch (mode & format.modeTypeMask) {
    case format.modeFile:
    case format.modeDirectory:
    case format.modeSymlink:
    case format.modeCharacter:
    case format.modeBlock:
    case format.modeFifo:
    case format.modeSocket:
      return;
    default:
      throw new ImageError(offset + 4, `an inode has the invalid mode 0${mode.toString(8)}`);
  }
}

/** Read the inode with the number `nid`. Throws ImageError, IncompatibleImage. */
export function readInode(image: Image, nid: number): InodeHead {
  const { view } = image;
  const offset = image.metaOffset + nid * format.slotBytes;
  // Also catches numbers so big that they are no longer exact.
  if (offset + format.compactInodeBytes > view.byteLength) {
    throw new ImageError(view.byteLength, `inode ${nid} lies beyond the end of the image`);
  }
  const iformat = view.getUint16(offset, true);
  if ((iformat & ~formatKnownBits) !== 0) {
    throw new IncompatibleImage(offset, `inode ${nid} has the unknown format 0x${iformat.toString(16)}`);
  }
  const compact = (iformat & 1) === 0;
  const headBytes = compact ? format.compactInodeBytes : format.extendedInodeBytes;
  const count = view.getUint16(offset + 2, true);
  const xattrBytes = count === 0 ? 0 : format.xattrHeaderBytes + 4 * (count - 1);
  const xattrOffset = offset + headBytes;
  if (xattrOffset + xattrBytes > view.byteLength) {
    throw new ImageError(offset, `inode ${nid} crosses the end of the image`);
  }
  const mode = view.getUint16(offset + 4, true);
  checkType(mode, offset);
  const sizeHigh = compact ? 0 : view.getUint32(offset + 12, true);
  return {
    nid,
    offset,
    compact,
    layout: iformat >> 1,
    mode,
    size: sizeHigh * uint32 + view.getUint32(offset + 8, true),
    union: view.getUint32(offset + 16, true),
    xattrOffset,
    xattrBytes,
  };
}

function within(image: Image, piece: Piece, inode: InodeHead): Piece {
  if (piece.offset + piece.bytes > image.bytes.length) {
    throw new ImageError(inode.offset, `the data of inode ${inode.nid} lies beyond the end of the image`);
  }
  return piece;
}

/**
 * Where the data of an inode with a flat layout lies: whole blocks, then the tail that follows the inode. The kernel's
 * rule: a tail has 1 to 4096 bytes and does not cross the end of a block. Throws ImageError.
 */
export function flatPieces(image: Image, inode: InodeHead): Piece[] {
  if (inode.size === 0) return [];
  const blocksOffset = inode.union * format.blockBytes;
  if (inode.layout === format.layoutFlatPlain) {
    return [within(image, { offset: blocksOffset, bytes: inode.size }, inode)];
  }
  const blockBytes = (Math.ceil(inode.size / format.blockBytes) - 1) * format.blockBytes;
  const tail = { offset: inode.xattrOffset + inode.xattrBytes, bytes: inode.size - blockBytes };
  if ((tail.offset % format.blockBytes) + tail.bytes > format.blockBytes) {
    throw new ImageError(tail.offset, `the tail of inode ${inode.nid} crosses the end of a block`);
  }
  const pieces = blockBytes === 0 ? [] : [within(image, { offset: blocksOffset, bytes: blockBytes }, inode)];
  return [...pieces, within(image, tail, inode)];
}

/** The map of a chunk-based inode: where it lies. Throws ImageError, IncompatibleImage. */
export function chunkMap(image: Image, inode: InodeHead): Piece {
  const chunkFormat = inode.union & 0xffff;
  if ((chunkFormat & ~(format.chunkBitsMask | format.chunkFormatIndexes)) !== 0) {
    throw new IncompatibleImage(
      inode.offset,
      `inode ${inode.nid} has the unknown chunk format ${chunkFormat}`,
    );
  }
  const entryBytes = (chunkFormat & format.chunkFormatIndexes) === 0 ? 4 : 8;
  const count = Math.ceil(inode.size / 2 ** ((chunkFormat & format.chunkBitsMask) + format.blockBits));
  const offset = format.roundUp(inode.xattrOffset + inode.xattrBytes, entryBytes);
  return within(image, { offset, bytes: count * entryBytes }, inode);
}

/**
 * The content of a chunk-based inode, with zeros where the map has holes: up to `bytesMax` bytes, for many chunks may be one and
 * the same. Throws ImageError, IncompatibleImage.
 */
export function chunkBytes(image: Image, inode: InodeHead, bytesMax: number): Uint8Array {
  if (inode.size > bytesMax) {
    throw new IncompatibleImage(
      inode.offset,
      `the content of inode ${inode.nid} is in chunks, and too large to be put together here`,
    );
  }
  const map = chunkMap(image, inode);
  const entryBytes = (inode.union & format.chunkFormatIndexes) === 0 ? 4 : 8;
  const step = 2 ** ((inode.union & format.chunkBitsMask) + format.blockBits);
  const content = Buffer.alloc(inode.size);
  for (let index = 0; index * entryBytes < map.bytes; index++) {
    const entry = map.offset + index * entryBytes;
    const address = image.view.getUint32(entry + entryBytes - 4, true);
    if (address === format.chunkHole) continue;
    if (entryBytes === 8 && image.view.getUint16(entry + 2, true) !== 0)
      throw new IncompatibleImage(entry, `a chunk of inode ${inode.nid} is on another device`);
    const bytes = Math.min(step, inode.size - index * step);
    const { offset } = within(image, { offset: address * format.blockBytes, bytes }, inode);
    image.bytes.copy(content, index * step, offset, offset + bytes);
  }
  return content;
}

/** Whether the inode's data has a flat layout. */
export function isFlat(inode: InodeHead): boolean {
  return inode.layout === format.layoutFlatPlain || inode.layout === format.layoutFlatInline;
}
