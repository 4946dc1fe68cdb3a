import * as format from './format.ts';
import type { Layout, Place } from './layout.ts';
import { chunksOf, directoryBlocks, isExternal, layOutImage } from './layout.ts';
import type { ImageNode, NodeEntry } from './nodes.ts';
import { holdsWhiteout, makeNodes } from './nodes.ts';
import type { Timestamp, Tree } from './tree.ts';
import { writeInodeXattrs, writeShared, xattrCount, XattrTable } from './xattrs.ts';

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

const uint32 = 2 ** 32;

/** What the encoders write into. */
interface Target {
  readonly image: Buffer;
  readonly layout: Layout;
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

function holdsAcl(table: XattrTable): boolean {
  return table.has('system.posix_acl_access') || table.has('system.posix_acl_default');
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

/** Writes a number below 2^53 into eight bytes. */
function writeNumber64(image: Buffer, value: number, offset: number): void {
  image.writeUInt32LE(value % uint32, offset);
  image.writeUInt32LE(Math.floor(value / uint32), offset + 4);
}

function writeInode(image: Buffer, node: ImageNode, place: Place): void {
  const { offset, compact } = place;
  image.writeUInt16LE((dataLayout(node, place) << 1) | (compact ? 0 : 1), offset);
  image.writeUInt16LE(xattrCount(place.xattrBytes), offset + 2);
  image.writeUInt16LE(node.mode, offset + 4);
  image.writeUInt32LE(unionField(node, place), offset + 16);
  image.writeUInt32LE(node.index, offset + 20);
  if (compact) {
    image.writeUInt16LE(node.nlink, offset + 6);
    image.writeUInt32LE(place.size, offset + 8);
    image.writeUInt16LE(node.uid, offset + 24);
    image.writeUInt16LE(node.gid, offset + 26);
  } else {
    writeNumber64(image, place.size, offset + 8);
    image.writeUInt32LE(node.uid, offset + 24);
    image.writeUInt32LE(node.gid, offset + 28);
    image.writeBigInt64LE(node.mtime.seconds, offset + 32);
    image.writeUInt32LE(node.mtime.nanoseconds, offset + 40);
    image.writeUInt32LE(node.nlink, offset + 44);
  }
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

function writeNames(target: Target, entries: readonly NodeEntry[], block: number): void {
  const { image, layout } = target;
  let nameOffset = entries.length * format.direntBytes;
  let offset = block;
  for (const { name, node } of entries) {
    const nid = (layout.places[node.index]?.offset ?? 0) / format.slotBytes;
    writeNumber64(image, nid, offset);
    image.writeUInt16LE(nameOffset, offset + 8);
    image.writeUInt8(fileTypes.get(node.mode & format.modeTypeMask) ?? 0, offset + 10);
    nameOffset += image.write(name, block + nameOffset, 'latin1');
    offset += format.direntBytes;
  }
}

function writeDirectory(target: Target, node: ImageNode, place: Place, tailOffset: number): void {
  const blocks = directoryBlocks(node.entries);
  blocks.forEach((entries, index) => {
    const offset = index < place.blocks ? (place.firstBlock + index) * format.blockBytes : tailOffset;
    writeNames(target, entries, offset);
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

function writeNode(target: Target, node: ImageNode): void {
  const { image, layout } = target;
  const place = layout.places[node.index];
  if (place === undefined) return;
  writeInode(image, node, place);
  const xattrOffset = place.offset + (place.compact ? format.compactInodeBytes : format.extendedInodeBytes);
  if (place.xattrBytes > 0)
    writeInodeXattrs(image, node.xattrs, xattrOffset, layout.sharedOffset % format.blockBytes);
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
  const table = new XattrTable();
  const nodes = makeNodes(tree, formatVersion, table);
  const earliest = earliestTime(nodes);
  const shared = table.share(nodes);
  const layout = layOutImage(nodes, shared, earliest);
  const image = Buffer.alloc(layout.imageBytes);
  const target: Target = { image, layout };
  writeHeader(image, formatVersion, holdsAcl(table));
  writeSuperblock(target, nodes.length, earliest);
  for (const node of nodes) writeNode(target, node);
  writeShared(image, shared, layout.sharedOffset);
  return image;
}
