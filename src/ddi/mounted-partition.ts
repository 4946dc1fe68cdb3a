import type { ByteSource } from '../base/byte-source.ts';
import { digestFromBytes } from '../base/digest.ts';
import { headBytes, recogniseFileSystem } from '../superblock/recognise.ts';
import { SuperblockInvalid } from '../superblock/superblock-invalid.ts';
import { demandSuperblock } from '../superblock/read-superblock.ts';
import { isUnscanned, type UnscannedFileSystem } from '../trust/file-system.ts';
import { rootHashSignatureBytesMax, type SignedRootHash } from '../trust/root-hash-signature.ts';
import { dissect, type DissectedPartition } from './dissect.ts';
import { DiskImageError } from './errors.ts';
import { readPartitionTable } from './gpt.ts';
import type { Architecture } from './partition-kinds.ts';
import { readVerityTree, type VerityTree } from './verity-superblock.ts';

/** A part of an image, in bytes. */
interface Range {
  readonly offset: number;
  readonly bytes: number;
}

/** What is mounted of a disk image. */
export interface MountedPartition {
  /** The mount is the root of a system, or what belongs at /usr of one. */
  readonly part: 'root' | 'usr';
  readonly fileSystem: 'erofs' | UnscannedFileSystem;
  readonly range: Range;
  /** Where the image has a partition of hashes for it. */
  readonly hashes?: { readonly range: Range; readonly table: VerityTree };
  /** Where it has a partition of the root hash's signature as well. What that says is not looked at here. */
  readonly signed?: SignedRootHash;
}

/**
 * Finds what is to be mounted of a disk image on a machine of the architecture `native`: its root partition, or its usr partition
 * where it has no root. The filesystem is named here, never guessed by the kernel. Throws DiskImageError, also for an image with
 * both: a mount is one filesystem, over which a container can lay its own overlay, and root without usr is not the tree that was meant.
 */
export function findMountedPartition(source: ByteSource, native: Architecture): MountedPartition {
  const found = dissect(readPartitionTable(source), native);
  const [root, usr] = [found.get('root'), found.get('usr')];
  if (root !== undefined && usr !== undefined)
    throw new DiskImageError(
      usr.offset,
      `the partition ${usr.number} is a usr partition beside root, ${root.number}; images are mounted that have all in one of them`,
    );
  const data = root ?? usr;
  if (data === undefined) throw new RangeError('neither root nor usr was found');
  const part = root === undefined ? 'usr' : 'root';
  const fileSystem = fileSystemOf(source, data);
  const range = rangeOf(data);
  const hashes = found.get(`${part}-verity`);
  if (hashes === undefined) return { part, fileSystem, range };
  const table = readVerityTree(source, data, hashes);
  const hashed = { part, fileSystem, range, hashes: { range: rangeOf(hashes), table } } as const;
  const signatures = found.get(`${part}-verity-sig`);
  if (signatures === undefined) return hashed;
  const rootHash = digestFromBytes(Buffer.from(table.rootHash, 'hex'));
  return { ...hashed, signed: { rootHash, signature: readText(source, signatures) } };
}

function rangeOf({ offset, bytes }: DissectedPartition): Range {
  return { offset, bytes };
}

/** What a partition of a signature says: a text that zeros fill up (UAPI.2). */
function readText(source: ByteSource, { offset, bytes, number, designator }: DissectedPartition): Uint8Array {
  const text = source.read(offset, Math.min(bytes, rootHashSignatureBytesMax + 1));
  const end = text.indexOf(0);
  if (end === -1 && text.length > rootHashSignatureBytesMax)
    throw new DiskImageError(
      offset,
      `the partition ${number} (${designator}) says more than ${rootHashSignatureBytesMax} bytes`,
    );
  return new Uint8Array(text.subarray(0, end === -1 ? text.length : end));
}

function fileSystemOf(
  source: ByteSource,
  { offset, bytes, number }: DissectedPartition,
): MountedPartition['fileSystem'] {
  const head = source.read(offset, Math.min(bytes, headBytes));
  const fileSystem = recogniseFileSystem(head);
  if (fileSystem === 'erofs') return fileSystem;
  if (fileSystem === undefined || !isUnscanned(fileSystem))
    throw new DiskImageError(
      offset,
      `the partition ${number} holds ${fileSystem ?? 'no filesystem that is known'}, and not erofs, squashfs, ext4, xfs or btrfs`,
    );
  try {
    demandSuperblock(fileSystem, head, bytes);
    return fileSystem;
  } catch (error) {
    if (!(error instanceof SuperblockInvalid)) throw error;
    throw new DiskImageError(offset, `the filesystem of partition ${number} is not whole: ${error.message}`);
  }
}
