import { headBytes, recogniseFileSystem } from '../superblock/recognise.ts';
import { SuperblockInvalid } from '../superblock/superblock-invalid.ts';
import { demandSuperblock } from '../superblock/read-superblock.ts';
import { isUnscanned, type UnscannedFileSystem } from '../trust/file-system.ts';
import type { ByteSource } from '../base/byte-source.ts';
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
export interface RootPartition {
  readonly fileSystem: 'erofs' | UnscannedFileSystem;
  readonly range: Range;
  /** Where the image has a partition of hashes for it. */
  readonly hashes?: { readonly range: Range; readonly table: VerityTree };
}

/**
 * Finds what is to be mounted of a disk image on a machine of the architecture `native`: its root partition, whose filesystem
 * is named here, never guessed by the kernel. Throws DiskImageError, also for an image with a usr partition, since root without it
 * is not the tree that was meant.
 */
export function findRootPartition(source: ByteSource, native: Architecture): RootPartition {
  const found = dissect(readPartitionTable(source), native);
  const usr = found.get('usr');
  if (usr !== undefined)
    throw new DiskImageError(
      usr.offset,
      `the partition ${usr.number} is a usr partition; images are mounted that have all in root`,
    );
  const root = found.get('root');
  if (root === undefined) throw new RangeError('neither root nor usr was found');
  const fileSystem = fileSystemOf(source, root);
  const range = { offset: root.offset, bytes: root.bytes };
  const hashes = found.get('root-verity');
  if (hashes === undefined) return { fileSystem, range };
  const table = readVerityTree(source, root, hashes);
  return { fileSystem, range, hashes: { range: { offset: hashes.offset, bytes: hashes.bytes }, table } };
}

function fileSystemOf(
  source: ByteSource,
  { offset, bytes, number }: DissectedPartition,
): RootPartition['fileSystem'] {
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
