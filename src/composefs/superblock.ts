import { crc32c } from './crc32c.ts';
import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';

/** The bytes of an image and what its superblock says. Offsets are in bytes. */
export interface Image {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly fileSystem: 'composefs' | 'erofs';
  /** The composefs format version; undefined for plain EROFS. */
  readonly formatVersion: number | undefined;
  readonly rootNid: number;
  /** Where inode 0 would be. */
  readonly metaOffset: number;
  /** Where shared attribute 0 would be. */
  readonly xattrOffset: number;
  /** The time of compact inodes. */
  readonly buildSeconds: bigint;
  readonly buildNanoseconds: number;
}

/** The newest composefs format version whose inodes read the same: composefs-rs writes 2. */
const formatVersionMax = 2;

const incompatChunkedFile = 0x4;
/** What plain EROFS may have: none of it changes where inodes and directories lie. */
const incompatWalkable = 0x7f;
const compatKnownToComposefs = format.compatChecksum | format.compatMtime | format.compatXattrFilter;

/** Names of feature_incompat's bits; several have two meanings that depend on other fields. */
const incompatNames: readonly string[] = [
  'zero padding',
  'compression',
  'chunked files',
  'device table or second compression algorithm',
  'packed compressed tails',
  'fragments or deduplication',
  'long attribute prefixes',
  '48-bit addresses',
  'metadata box',
];

function featureNames(bits: number): string {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if ((bits & (1 << bit)) !== 0) names.push(incompatNames[bit] ?? `bit ${bit}`);
  }
  return names.join(', ');
}

/** Where the superblock's fields are, from the start of the image. */
const at = (field: number): number => format.superblockOffset + field;

function composefsVersion(view: DataView): number | undefined {
  if (view.getUint32(0, true) !== format.composefsMagic) return undefined;
  const headerVersion = view.getUint32(4, true);
  if (headerVersion !== format.composefsHeaderVersion) {
    throw new IncompatibleImage(4, `the composefs header has the unknown version ${headerVersion}`);
  }
  const flags = view.getUint32(8, true);
  if ((flags & ~format.composefsFlagAcl) !== 0) {
    throw new IncompatibleImage(8, `the composefs header has unknown flags 0x${flags.toString(16)}`);
  }
  const version = view.getUint32(12, true);
  if (version > formatVersionMax)
    throw new IncompatibleImage(12, `composefs format version ${version} is unknown`);
  return version;
}

function checkFeatures(view: DataView, composefs: boolean): void {
  const incompat = view.getUint32(at(80), true);
  const unknown = incompat & ~(composefs ? incompatChunkedFile : incompatWalkable | 0x8);
  if (unknown !== 0)
    throw new IncompatibleImage(
      at(80),
      `the image uses EROFS features not read here: ${featureNames(unknown)}`,
    );
  const compat = view.getUint32(at(8), true);
  if (composefs && (compat & ~compatKnownToComposefs) !== 0) {
    throw new IncompatibleImage(at(8), `the image has unknown compatible features 0x${compat.toString(16)}`);
  }
  const devices = view.getUint16(at(86), true);
  if (devices !== 0) throw new IncompatibleImage(at(86), `the image needs ${devices} further devices`);
  if (view.getUint8(at(90)) !== 0)
    throw new IncompatibleImage(at(90), 'directory blocks are not of 4096 bytes');
  // The kernel reads the table whether or not the feature's bit is set, and with it the name of an attribute can be put
  // together that is not there in one piece: the redirect of overlayfs, for one.
  if (composefs && view.getUint8(at(91)) !== 0)
    throw new IncompatibleImage(at(91), 'the image has long attribute prefixes, which are not read here');
}

/** The kernel sums the rest of the first block with the sum itself as zero; there is no final inversion. */
function checkSum(image: Uint8Array, view: DataView): void {
  if ((view.getUint32(at(8), true) & format.compatChecksum) === 0) return;
  const block = Buffer.from(image.subarray(format.superblockOffset, format.blockBytes));
  block.writeUInt32LE(0, 4);
  if (crc32c(block) !== view.getUint32(at(4), true))
    throw new ImageError(at(4), "the superblock's checksum is wrong");
}

/**
 * Open an image: check everything that decides how the rest is to be read.
 * Throws ImageError, IncompatibleImage.
 */
export function openImage(image: Uint8Array): Image {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  if (bytes.length < format.blockBytes)
    throw new ImageError(bytes.length, 'the image ends in its first block');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const formatVersion = composefsVersion(view);
  if (view.getUint32(at(0), true) !== format.erofsMagic)
    throw new ImageError(at(0), 'there is no EROFS superblock');
  const bits = view.getUint8(at(12));
  if (bits !== format.blockBits) {
    throw new IncompatibleImage(at(12), `blocks have 2^${bits} bytes; only 4096 are read`);
  }
  checkFeatures(view, formatVersion !== undefined);
  checkSum(bytes, view);
  const blocks = view.getUint32(at(36), true);
  if (blocks * format.blockBytes > bytes.length) {
    throw new ImageError(bytes.length, `the image ends before its ${blocks} blocks of 4096 bytes`);
  }
  return {
    bytes,
    view,
    fileSystem: formatVersion === undefined ? 'erofs' : 'composefs',
    formatVersion,
    rootNid: view.getUint16(at(14), true),
    metaOffset: view.getUint32(at(40), true) * format.blockBytes,
    xattrOffset: view.getUint32(at(44), true) * format.blockBytes,
    buildSeconds: view.getBigInt64(at(24), true),
    buildNanoseconds: view.getUint32(at(32), true),
  };
}
