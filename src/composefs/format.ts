/**
 * Numbers of the EROFS on-disk format (fs/erofs/erofs_fs.h of Linux 6.18, Documentation/filesystems/erofs.rst) and of
 * the composefs header that goes before it. All integers on disk are little-endian; offsets and sizes are in bytes.
 */

/** EROFS blocks, as composefs writes them; other sizes are refused. */
export const blockBytes = 4096;
/** log2 of `blockBytes`. */
export const blockBits = 12;
/** Inodes begin at multiples of this; an inode's number (nid) counts these slots. */
export const slotBytes = 32;

/** The composefs header is at offset 0. */
export const composefsMagic = 0xd078629a;
/** The version of the composefs header itself; the format version of the image is a field in it. */
export const composefsHeaderVersion = 1;
/** Flag of the composefs header: some inode has a POSIX ACL. */
export const composefsFlagAcl = 1;

export const superblockOffset = 1024;
export const superblockBytes = 128;
export const erofsMagic = 0xe0f5e1e2;

/** Bits of the superblock's feature_compat. */
export const compatChecksum = 0x1;
export const compatMtime = 0x2;
export const compatXattrFilter = 0x4;

/** The first 32 bytes of an inode, whole in its compact form. */
export const compactInodeBytes = 32;
export const extendedInodeBytes = 64;

/** Data layouts: bits 1 to 3 of an inode's i_format. */
export const layoutFlatPlain = 0;
export const layoutCompressedFull = 1;
export const layoutFlatInline = 2;
export const layoutCompressedCompact = 3;
export const layoutChunkBased = 4;

/** Low bits of a chunk-based inode's format: log2 of the blocks in a chunk. */
export const chunkBitsMask = 0x1f;
/** A chunk-based inode's entries are 8 bytes each instead of 4. */
export const chunkFormatIndexes = 0x20;
/** The address of a chunk that is full of zeros. */
export const chunkHole = 0xffffffff;

export const direntBytes = 12;
export const nameBytesMax = 255;
/** PATH_MAX less the final NUL: the longest target of a symbolic link. */
export const targetBytesMax = 4095;

/** An inode's attributes begin with a filter of their names, a count of shared ones, and their positions. */
export const xattrHeaderBytes = 12;
export const xattrEntryBytes = 4;
export const xattrFilterSeed = 0x25bbe08f;

/** File types of st_mode: inode(7). */
export const modeTypeMask = 0o170000;
export const modeFifo = 0o010000;
export const modeCharacter = 0o020000;
export const modeDirectory = 0o040000;
export const modeBlock = 0o060000;
export const modeFile = 0o100000;
export const modeSymlink = 0o120000;
export const modeSocket = 0o140000;

/** Prefix numbers from here on are those of the superblock's table. */
export const longPrefixFirst = 128;

/** The name prefixes that stand as one number in an attribute's entry; 0 is no prefix. */
export const xattrPrefixes: readonly { readonly index: number; readonly prefix: string }[] = [
  { index: 1, prefix: 'user.' },
  { index: 2, prefix: 'system.posix_acl_access' },
  { index: 3, prefix: 'system.posix_acl_default' },
  { index: 4, prefix: 'trusted.' },
  { index: 5, prefix: 'lustre.' },
  { index: 6, prefix: 'security.' },
];

/** `value` rounded up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
