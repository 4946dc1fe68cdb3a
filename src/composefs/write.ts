import * as format from './format.ts';
import type { Layout, Place } from './layout.ts';
import { chunksOf, directoryBlocks, isExternal, layOutImage } from './layout.ts';
import type { ImageNode, NodeEntry } from './nodes.ts';
import { holdsWhiteout, makeNodes } from './nodes.ts';
import type { Timestamp, Tree } from './tree.ts';
import type { InodeXattrs } from './xattrs.ts';
import { makeXattrTables, writeEntries, xattrCount } from './xattrs.ts';

/** A layout of composefs images: 0 is mkcomposefs's first; 1 marks whiteouts so that kernels since 6.8 find them. */
export type FormatVersion = 0 | 1;

/**
 * mkcomposefs's --min-version and --max-version: an image has the version `minVersion`, unless the tree holds a
 * whiteout and `maxVersion` allows the version 1 that whiteouts need.
 */
export interface WriteOptions {
  readonly minVersion: FormatVersion;
  readonly maxVersion: FormatVersion;
}

/** Files up to this many bytes stand in the image when mkcomposefs builds it from a directory. */
export const inlineFileBytesMax = 64;

/** What the encoders write into. */
interface Target {
  readonly image: Buffer;
  readonly layout: Layout;
  readonly placeOf: ReadonlyMap<ImageNode, Place>;
}

function earliestTime(nodes: readonly ImageNode[]): Timestamp {
  let earliest: Timestamp | undefined;
  for (const { mtime } of nodes) {
    if (
      earliest === undefined ||
      mtime.seconds < earliest.seconds ||
      (mtime.seconds === earliest.seconds && mtime.nanoseconds < earliest.nanoseconds)
    ) {
      earliest = mtime;
    }
  }
  return earliest ?? { seconds: 0n, nanoseconds: 0 };
}

function holdsAcl(nodes: readonly ImageNode[]): boolean {
  return nodes.some(({ xattrs }) =>
    xattrs.some(({ name }) => name === 'system.posix_acl_access' || name === 'system.posix_acl_default'),
  );
}

function writeHeader(image: Buffer, formatVersion: FormatVersion, acl: boolean): void {
  image.writeUInt32LE(format.composefsMagic, 0);
  image.writeUInt32LE(format.composefsHeaderVersion, 4);
  image.writeUInt32LE(acl ? format.composefsFlagAcl : 0, 8);
  image.writeUInt32LE(formatVersion, 12);
}

function writeSuperblock({ image, layout }: Target, inodes: number, earliest: Timestamp): void {
  const superblock = image.subarray(
    format.superblockOffset,
    format.superblockOffset + format.superblockBytes,
  );
  superblock.writeUInt32LE(format.erofsMagic, 0);
  superblock.writeUInt32LE(format.compatMtime | format.compatXattrFilter, 8);
  superblock.writeUInt8(format.blockBits, 12);
  superblock.writeUInt16LE((layout.places[0]?.offset ?? 0) / format.slotBytes, 14);
  superblock.writeBigUInt64LE(BigInt(inodes), 16);
  superblock.writeBigInt64LE(earliest.seconds, 24);
  superblock.writeUInt32LE(earliest.nanoseconds, 32);
  superblock.writeUInt32LE(layout.imageBytes / format.blockBytes, 36);
  // Inodes are counted from block 0, where the superblock is.
  superblock.writeUInt32LE(0, 40);
  superblock.writeUInt32LE(Math.floor(layout.sharedOffset / format.blockBytes), 44);
}

function dataLayout(node: ImageNode, place: Place): number {
  if (isExternal(node)) return format.layoutChunkBased;
  return place.tailBytes > 0 ? format.layoutFlatInline : format.layoutFlatPlain;
}

/** The field that is a block, a device number or a chunk format, by the inode's type and layout. */
function unionField(node: ImageNode, place: Place): number {
  const type = node.mode & format.modeTypeMask;
  if (type === format.modeCharacter || type === format.modeBlock) return node.rdev;
  // As in mkcomposefs, the chunk format replaces the lower half of a block's number.
  if (isExternal(node)) return ((place.firstBlock & 0xffff0000) | chunksOf(node.size).bits) >>> 0;
  return place.firstBlock;
}

function writeInode(inode: Buffer, node: ImageNode, place: Place, index: number): void {
  inode.writeUInt16LE((dataLayout(node, place) << 1) | (place.compact ? 0 : 1), 0);
  inode.writeUInt16LE(xattrCount(place.xattrBytes), 2);
  inode.writeUInt16LE(node.mode, 4);
  inode.writeUInt32LE(unionField(node, place), 16);
  inode.writeUInt32LE(index, 20);
  if (place.compact) {
    inode.writeUInt16LE(node.nlink, 6);
    inode.writeUInt32LE(place.size, 8);
    inode.writeUInt16LE(node.uid, 24);
    inode.writeUInt16LE(node.gid, 26);
  } else {
    inode.writeBigUInt64LE(BigInt(place.size), 8);
    inode.writeUInt32LE(node.uid, 24);
    inode.writeUInt32LE(node.gid, 28);
    inode.writeBigInt64LE(node.mtime.seconds, 32);
    inode.writeUInt32LE(node.mtime.nanoseconds, 40);
    inode.writeUInt32LE(node.nlink, 44);
  }
}

function writeXattrs(target: Buffer, xattrs: InodeXattrs, sharedBase: number): void {
  target.writeUInt32LE(xattrs.filter, 0);
  target.writeUInt8(xattrs.shared.length, 4);
  let offset = format.xattrHeaderBytes;
  for (const { sharedOffset = 0 } of xattrs.shared) {
    target.writeUInt32LE((sharedBase + sharedOffset) / 4, offset);
    offset += 4;
  }
  writeEntries(target, xattrs.own, offset);
}

const fileTypes: ReadonlyMap<number, number> = new Map([
  [format.modeFile, 1],
  [format.modeDirectory, 2],
  [format.modeCharacter, 3],
  [format.modeBlock, 4],
  [format.modeFifo, 5],
  [format.modeSocket, 6],
  [format.modeSymlink, 7],
]);

function writeNames(block: Buffer, entries: readonly NodeEntry[], placeOf: Target['placeOf']): void {
  let nameOffset = entries.length * format.direntBytes;
  let offset = 0;
  for (const { name, node } of entries) {
    const nid = (placeOf.get(node)?.offset ?? 0) / format.slotBytes;
    block.writeBigUInt64LE(BigInt(nid), offset);
    block.writeUInt16LE(nameOffset, offset + 8);
    block.writeUInt8(fileTypes.get(node.mode & format.modeTypeMask) ?? 0, offset + 10);
    nameOffset += block.write(name, nameOffset, 'latin1');
    offset += format.direntBytes;
  }
}

function writeDirectory({ image, placeOf }: Target, node: ImageNode, place: Place, tailOffset: number): void {
  const blocks = directoryBlocks(node.entries);
  blocks.forEach((entries, index) => {
    const offset = index < place.blocks ? (place.firstBlock + index) * format.blockBytes : tailOffset;
    writeNames(image.subarray(offset), entries, placeOf);
  });
}

function writeData(target: Target, node: ImageNode, place: Place, tailOffset: number): void {
  const { image } = target;
  const firstOffset = place.firstBlock * format.blockBytes;
  if ((node.mode & format.modeTypeMask) === format.modeDirectory) {
    writeDirectory(target, node, place, tailOffset);
  } else if (isExternal(node)) {
    // Every chunk is a hole: overlayfs takes the data from the store.
    if (place.blocks > 0) image.fill(0xff, firstOffset, firstOffset + format.blockBytes);
    image.fill(0xff, tailOffset, tailOffset + place.tailBytes);
  } else if (node.bytes !== undefined) {
    const split = node.bytes.length - place.tailBytes;
    if (place.blocks > 0) image.set(node.bytes.subarray(0, split), firstOffset);
    image.set(node.bytes.subarray(split), tailOffset);
  }
}

function writeNode(target: Target, node: ImageNode, index: number, xattrs: InodeXattrs | undefined): void {
  const place = target.placeOf.get(node);
  if (place === undefined) return;
  const { image, layout } = target;
  writeInode(image.subarray(place.offset), node, place, index);
  const xattrOffset = place.offset + (place.compact ? format.compactInodeBytes : format.extendedInodeBytes);
  if (xattrs !== undefined && xattrs.bytes > 0) {
    writeXattrs(image.subarray(xattrOffset), xattrs, layout.sharedOffset % format.blockBytes);
  }
  writeData(target, node, place, xattrOffset + place.xattrBytes);
}

/** The format version that mkcomposefs takes for `tree`. */
export function chooseFormatVersion(tree: Tree, options: WriteOptions): FormatVersion {
  if (options.minVersion === 0 && options.maxVersion === 1 && holdsWhiteout(tree)) return 1;
  return options.minVersion;
}

/**
 * The composefs image of `tree`, byte for byte what mkcomposefs 1.0.8 writes.
 * Throws TreeError for what no image can hold.
 */
export function writeImage(tree: Tree, options: WriteOptions): Uint8Array {
  const formatVersion = chooseFormatVersion(tree, options);
  const nodes = makeNodes(tree, formatVersion);
  const earliest = earliestTime(nodes);
  const xattrs = makeXattrTables(nodes);
  const layout = layOutImage(nodes, xattrs, earliest);
  const image = Buffer.alloc(layout.imageBytes);
  const placeOf = new Map<ImageNode, Place>();
  nodes.forEach((node, index) => {
    const place = layout.places[index];
    if (place !== undefined) placeOf.set(node, place);
  });
  const target: Target = { image, layout, placeOf };
  writeHeader(image, formatVersion, holdsAcl(nodes));
  writeSuperblock(target, nodes.length, earliest);
  nodes.forEach((node, index) => {
    writeNode(target, node, index, xattrs.inodes[index]);
  });
  writeEntries(image, xattrs.shared, layout.sharedOffset);
  return image;
}
