import * as format from './format.ts';
import type { ImageNode } from './nodes.ts';
import type { SharedXattrs } from './xattrs.ts';
import { inodeXattrBytes } from './xattrs.ts';

/** Where an inode lies and in which form. Offsets are in bytes from the start of the image. */
export interface Place {
  readonly offset: number;
  readonly compact: boolean;
  readonly xattrBytes: number;
  /** Data that follows the inode and its attributes, in bytes. */
  readonly tailBytes: number;
  /** Data in blocks of its own, before the tail. */
  readonly blocks: number;
  /** The first of these blocks; 0 without any. */
  firstBlock: number;
  /** The data's size as the inode gives it. */
  readonly size: number;
}

/** The image as a whole. Inodes come first, then shared attributes, then blocks of data. */
export interface Layout {
  readonly places: readonly Place[];
  /** Where the shared attributes begin. */
  readonly sharedOffset: number;
  readonly imageBytes: number;
}

/** The chunks of a file whose data is not in the image: as few as possible. */
export interface Chunks {
  /** log2 of a chunk's size in blocks. */
  readonly bits: number;
  readonly count: number;
}

/** How mkcomposefs divides a file of `size` bytes into chunks. */
export function chunksOf(size: number): Chunks {
  let bits = 0;
  let chunkBytes = format.blockBytes;
  for (; bits < format.chunkBitsMask && chunkBytes < size; chunkBytes *= 2) bits++;
  return { bits, count: Math.ceil(size / chunkBytes) };
}

/** Whether the inode is a file whose bytes are not in the image. */
export function isExternal(node: ImageNode): boolean {
  return (node.mode & format.modeTypeMask) === format.modeFile && node.size > 0 && node.bytes === undefined;
}

/** A directory's names, divided into blocks as they are written; the last may follow the inode instead. */
export function directoryBlocks<Named extends { readonly name: string }>(
  entries: readonly Named[],
): Named[][] {
  const blocks: Named[][] = [];
  let used = format.blockBytes;
  for (const entry of entries) {
    const bytes = format.direntBytes + entry.name.length;
    if (used + bytes > format.blockBytes) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)?.push(entry);
    used += bytes;
  }
  return blocks;
}

/** How the names of a directory are stored; they are sorted and include `.` and `..`. */
function directoryData(entries: readonly { readonly name: string }[]): DataSize {
  const blocks = directoryBlocks(entries);
  const lastBytes = blocks.at(-1)?.reduce((sum, { name }) => sum + format.direntBytes + name.length, 0);
  return withTail(blocks.length - 1, lastBytes ?? 0);
}

/** The size that a directory with these names has in an image, `.` and `..` left out, in bytes. */
export function directoryBytes(names: Iterable<string>): number {
  const sorted = ['.', '..', ...names].sort();
  const { blocks, tailBytes } = directoryData(sorted.map((name) => ({ name })));
  return blocks * format.blockBytes + tailBytes;
}

interface DataSize {
  blocks: number;
  tailBytes: number;
}

/** A tail above half a block goes into a block of its own. */
function withTail(blocks: number, tailBytes: number): DataSize {
  return tailBytes > format.blockBytes / 2 ? { blocks: blocks + 1, tailBytes: 0 } : { blocks, tailBytes };
}

function dataSize(node: ImageNode): DataSize {
  const type = node.mode & format.modeTypeMask;
  if (type === format.modeDirectory) return directoryData(node.entries);
  if (type === format.modeSymlink) return { blocks: 0, tailBytes: node.size };
  if (isExternal(node)) return { blocks: 0, tailBytes: chunksOf(node.size).count * 4 };
  if (type === format.modeFile) {
    return withTail(Math.floor(node.size / format.blockBytes), node.size % format.blockBytes);
  }
  return { blocks: 0, tailBytes: 0 };
}

/** Compact inodes have no time of their own (they take the image's) and narrow fields. */
function fitsCompact(node: ImageNode, size: number, earliest: ImageNode['mtime']): boolean {
  return (
    node.mtime.seconds === earliest.seconds &&
    node.mtime.nanoseconds === earliest.nanoseconds &&
    Math.max(node.nlink, node.uid, node.gid) <= 0xffff &&
    size <= 0xffffffff
  );
}

/** A link's inode and target lie in one block; a target that fits into none gets a block of its own. */
function padForTarget(offset: number, headBytes: number, data: DataSize): number {
  const total = headBytes + data.tailBytes;
  const crosses =
    Math.floor(offset / format.blockBytes) !== Math.floor((offset + total - 1) / format.blockBytes);
  if (total >= format.blockBytes) {
    data.blocks++;
    data.tailBytes = 0;
  }
  return crosses ? format.roundUp(offset, format.blockBytes) - offset : 0;
}

/** Bytes to leave out before an inode, so that its tail does not cross the end of a block. */
function padForTail(offset: number, headBytes: number, data: DataSize): number {
  const left = format.blockBytes - ((offset + headBytes) % format.blockBytes);
  if (left >= data.tailBytes) return 0;
  const pad = format.roundUp(left, format.slotBytes);
  const leftAfter = format.blockBytes - ((offset + headBytes + pad) % format.blockBytes);
  if (data.tailBytes <= leftAfter) return pad;
  data.blocks++;
  data.tailBytes = 0;
  return format.roundUp(offset, format.blockBytes) - offset;
}

function inodeSize(node: ImageNode, data: DataSize): number {
  const type = node.mode & format.modeTypeMask;
  return type === format.modeDirectory ? data.blocks * format.blockBytes + data.tailBytes : node.size;
}

/** Where everything lies. `earliest` is the earliest time of any inode. Throws TreeError where attributes do not fit. */
export function layOutImage(
  nodes: readonly ImageNode[],
  shared: SharedXattrs,
  earliest: ImageNode['mtime'],
): Layout {
  let offset = format.superblockOffset + format.superblockBytes;
  let dataBlocks = 0;
  const places = nodes.map((node): Place => {
    const data = dataSize(node);
    const size = inodeSize(node, data);
    const compact = fitsCompact(node, size, earliest);
    const xattrBytes = inodeXattrBytes(node.xattrs);
    const headBytes = (compact ? format.compactInodeBytes : format.extendedInodeBytes) + xattrBytes;
    offset = format.roundUp(offset, format.slotBytes);
    const isLink = (node.mode & format.modeTypeMask) === format.modeSymlink;
    offset += isLink ? padForTarget(offset, headBytes, data) : padForTail(offset, headBytes, data);
    // Counted from the first block of data, whose place is only known once all inodes have theirs.
    const { blocks, tailBytes } = data;
    const place = { offset, compact, xattrBytes, tailBytes, blocks, firstBlock: dataBlocks, size };
    offset += headBytes + tailBytes;
    dataBlocks += blocks;
    return place;
  });
  const sharedOffset = format.roundUp(offset, format.slotBytes);
  const firstDataBlock = Math.ceil((sharedOffset + shared.bytes) / format.blockBytes);
  for (const place of places) place.firstBlock = place.blocks > 0 ? firstDataBlock + place.firstBlock : 0;
  return { places, sharedOffset, imageBytes: (firstDataBlock + dataBlocks) * format.blockBytes };
}
