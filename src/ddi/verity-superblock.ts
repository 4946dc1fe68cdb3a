import { createHash } from 'node:crypto';
import { equalBytes, fromHex, toHex } from '../base/bytes.ts';
import type { ByteSource } from '../base/byte-source.ts';
import type { DissectedPartition } from './dissect.ts';
import { DiskImageError } from './errors.ts';

// The partition of hashes of dm-verity: struct verity_sb, which cryptsetup writes (its Wiki, "DMVerity", "On-disk format"),
// then the hash tree, its top first (Documentation/admin-guide/device-mapper/verity.rst).

/** What the kernel's dm-verity needs to know of a pair of partitions, by UAPI.2, to check the data by the hashes. */
export interface VerityTree {
  /** Of 512, 1024, 2048 and 4096 bytes each. */
  readonly dataBlockBytes: number;
  readonly hashBlockBytes: number;
  readonly dataBlocks: number;
  /** The block of the tree's top in the partition of hashes, in blocks of hashBlockBytes. */
  readonly hashStartBlock: number;
  /** At most 256 bytes, in lower-case hexadecimal. */
  readonly salt: string;
  /** SHA-256, in lower-case hexadecimal. */
  readonly rootHash: string;
}

const superblockBytes = 512;
const signature = Buffer.from('verity\0\0');
const digestBytes = 32;
const saltBytesMax = 256;

/** What the kernel takes: at least a sector and at most the smallest page. */
const blockSizes: readonly number[] = [512, 1024, 2048, 4096];

/**
 * Reads the hashes of `data`, and makes sure that they belong to it: that they cover all of its file system, lie within their
 * partition, and begin with the root hash that the UUIDs of both partitions state. Throws DiskImageError.
 */
export function readVerityTree(
  source: ByteSource,
  data: DissectedPartition,
  hashes: DissectedPartition,
): VerityTree {
  const fail = (offset: number, reason: string): never => {
    throw new DiskImageError(
      hashes.offset + offset,
      `the partition ${hashes.number} (${hashes.designator}) ${reason}`,
    );
  };
  if (hashes.bytes < superblockBytes) fail(0, 'is too small for hashes of dm-verity');
  const block = source.read(hashes.offset, superblockBytes);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (!equalBytes(block.subarray(0, 8), signature)) fail(0, 'holds no hashes of dm-verity');
  const version = view.getUint32(8, true);
  if (version !== 1) fail(8, `has hashes in the unknown format ${version}`);
  const type = view.getUint32(12, true);
  if (type !== 1) fail(12, `has hashes of type ${type}; only 1 is taken`);
  const algorithm = Buffer.from(block.subarray(32, 64)).toString('latin1').replace(/\0+$/, '');
  if (algorithm !== 'sha256') fail(32, `has hashes by ${printable(algorithm)}; only sha256 is taken`);
  const dataBlockBytes = view.getUint32(64, true);
  const hashBlockBytes = view.getUint32(68, true);
  if (!blockSizes.includes(dataBlockBytes)) fail(64, `hashes blocks of ${dataBlockBytes} bytes`);
  if (!blockSizes.includes(hashBlockBytes)) fail(68, `has hashes in blocks of ${hashBlockBytes} bytes`);
  const dataBlocksFit = Math.floor(data.bytes / dataBlockBytes);
  const stated = view.getBigUint64(72, true);
  if (stated < 1n || stated > BigInt(dataBlocksFit))
    fail(72, `has hashes of ${stated} blocks, and partition ${data.number} has ${dataBlocksFit}`);
  const dataBlocks = Number(stated);
  const saltBytes = view.getUint16(80, true);
  if (saltBytes > saltBytesMax) fail(80, `has a salt of ${saltBytes} bytes, where ${saltBytesMax} fit`);
  const hashBlocks = treeBlocks(dataBlocks, hashBlockBytes);
  // The superblock takes the first block.
  if ((1 + hashBlocks) * hashBlockBytes > hashes.bytes)
    fail(0, `ends before the ${hashBlocks} blocks of its hashes`);
  const salt = block.subarray(88, 88 + saltBytes);
  const rootHash = rootHashOf(data, hashes);
  const top =
    hashBlocks === 0
      ? source.read(data.offset, dataBlockBytes)
      : source.read(hashes.offset + hashBlockBytes, hashBlockBytes);
  const found = createHash('sha256').update(salt).update(top).digest();
  if (!equalBytes(found, fromHex(rootHash) ?? new Uint8Array()))
    fail(
      hashBlockBytes,
      `has the root hash ${toHex(found)}, and the UUIDs of the partitions ${data.number} and ${hashes.number} state ${rootHash}`,
    );
  return { dataBlockBytes, hashBlockBytes, dataBlocks, hashStartBlock: 1, salt: toHex(salt), rootHash };
}

/** UAPI.2: the UUID of the data is the root hash's first half, that of the hashes its second. */
function rootHashOf(data: DissectedPartition, hashes: DissectedPartition): string {
  return (data.uuid + hashes.uuid).replaceAll('-', '');
}

/** Blocks of all levels of a hash tree; none where there is a single block of data, whose hash is the root hash. */
function treeBlocks(dataBlocks: number, hashBlockBytes: number): number {
  const hashesPerBlock = hashBlockBytes / digestBytes;
  let blocks = 0;
  for (let level = dataBlocks; level > 1;) {
    level = Math.ceil(level / hashesPerBlock);
    blocks += level;
  }
  return blocks;
}

function printable(name: string): string {
  return /^[\w-]{1,32}$/.test(name) ? name : 'an unknown algorithm';
}
