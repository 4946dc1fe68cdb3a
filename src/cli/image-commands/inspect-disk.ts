import type { Digest } from '../../base/digest.ts';
import { dissect, type DissectedPartition } from '../../ddi/dissect.ts';
import { DiskImageError } from '../../ddi/errors.ts';
import { readPartitionTable, type PartitionTable } from '../../ddi/gpt.ts';
import { nativeArchitecture } from '../../ddi/native-architecture.ts';
import { kindName } from '../../ddi/partition-kinds.ts';
import { findMountedPartition, type MountedPartition } from '../../ddi/mounted-partition.ts';
import { CommandError } from '../command-error.ts';
import { withDiskSource } from '../disk-source.ts';
import { measureFile, withPath } from '../input-file.ts';
import { printJson } from '../output.ts';
import { printable } from './printable.ts';
import { printLines } from './print-lines.ts';
import { formatSize } from './progress.ts';

interface Disk {
  readonly table: PartitionTable;
  readonly bytes: number;
  /** Those that count on this machine, by their place on the disk. */
  readonly partitions: readonly DissectedPartition[];
  /** What is mounted, or why nothing is. */
  readonly mounted: MountedPartition | string;
}

/** Prints the partitions of a disk image, by the names that systemd-dissect gives them. Throws CommandError. */
export function inspectDisk(path: string, options: { readonly json?: true }): void {
  const disk = withPath(path, () => diskOf(path));
  const digest = measureFile(path);
  if (options.json === true) printJson(describe(digest, disk));
  else printLines(summarize(digest, disk));
}

function diskOf(path: string): Disk {
  return withDiskSource(path, (source) => {
    try {
      const native = nativeArchitecture(process.arch);
      const table = readPartitionTable(source);
      const partitions = [...dissect(table, native).values()].sort((a, b) => a.offset - b.offset);
      return {
        table,
        bytes: source.bytes,
        partitions,
        mounted: mountedOf(() => findMountedPartition(source, native)),
      };
    } catch (error) {
      if (error instanceof DiskImageError) throw new CommandError(`${path}: ${error.message}`);
      throw error;
    }
  });
}

function mountedOf(find: () => MountedPartition): MountedPartition | string {
  try {
    return find();
  } catch (error) {
    if (error instanceof DiskImageError) return error.message;
    throw error;
  }
}

function describe(digest: Digest, { table, bytes, partitions, mounted }: Disk): Record<string, unknown> {
  return {
    digest,
    fileSystem: 'ddi',
    imageBytes: bytes,
    uuid: table.diskUuid,
    sectorBytes: table.sectorBytes,
    partitions: partitions.map((partition) => ({
      designator: partition.designator,
      ...(partition.architecture === undefined ? {} : { architecture: partition.architecture }),
      number: partition.number,
      uuid: partition.uuid,
      label: printable(partition.label),
      offset: partition.offset,
      bytes: partition.bytes,
      readOnly: partition.readOnly,
      growFileSystem: partition.growFileSystem,
    })),
    ...(typeof mounted === 'string'
      ? { refused: mounted }
      : { [mounted.part]: { fileSystem: mounted.fileSystem, rootHash: mounted.hashes?.table.rootHash } }),
  };
}

function summarize(digest: Digest, { table, bytes, partitions, mounted }: Disk): string[] {
  return [
    `Digest:        ${digest}`,
    'File system:   ddi',
    `Image size:    ${formatSize(bytes)}, in blocks of ${table.sectorBytes} bytes`,
    `UUID:          ${table.diskUuid}`,
    ...partitions.map(
      (partition) =>
        `Partition ${partition.number}:`.padEnd(15) +
        `${kindName(partition)}, ${formatSize(partition.bytes)}, UUID ${partition.uuid}, label "${printable(partition.label)}"`,
    ),
    ...(typeof mounted === 'string'
      ? [`Mounted:       nothing: ${mounted}`]
      : [`Mounted:       ${mounted.part}, as ${mounted.fileSystem}${hashesOf(mounted)}`]),
  ];
}

function hashesOf({ hashes }: MountedPartition): string {
  return hashes === undefined ? '' : `, checked by dm-verity where there is one: ${hashes.table.rootHash}`;
}
