import { crc32 } from 'node:zlib';
import { equalBytes } from '../base/bytes.ts';
import type { ByteSource } from '../base/byte-source.ts';
import { DiskImageError } from './errors.ts';
import type { Partition } from './gpt-entry.ts';
import { entryBytes, parseEntry, parseGuid } from './gpt-entry.ts';

// The GUID partition table: UEFI specification 2.10, chapter 5. An image that was built and signed in one piece has no
// reason for a damaged table, so nothing is repaired here: header and backup have to be sound and to say the same.

/** What a table says. */
export interface PartitionTable {
  readonly sectorBytes: number;
  readonly diskUuid: string;
  /** Where its entries begin, in bytes. */
  readonly entriesOffset: number;
  /** Used entries, by their place in the table. No two overlap, and all lie within the image. */
  readonly partitions: readonly Partition[];
}

/** Sizes of a logical block that disks have. */
const sectorSizes = [512, 4096] as const;

const signature = Buffer.from('EFI PART');
const revision = 0x0001_0000;
const headerBytesMin = 92;

/** Entries of a table: tools make 128, and the kernel shows 256 partitions of a disk at most. */
const entriesMax = 256;

const mbr = { records: 446, recordBytes: 16, signature: 510, protective: 0xee } as const;

/** One header, checked by itself. Places are logical blocks (LBA). */
interface Header {
  /** Where it lies, in bytes. */
  readonly offset: number;
  readonly alternate: number;
  readonly firstUsable: number;
  readonly lastUsable: number;
  readonly diskGuid: Uint8Array;
  readonly entriesAt: number;
  readonly entriesCount: number;
  /** Blocks that the array of entries takes. */
  readonly entriesBlocks: number;
  readonly entries: Uint8Array;
}

/** The partition table of a disk image. Reads at most 80 KiB. Throws DiskImageError. */
export function readPartitionTable(source: ByteSource): PartitionTable {
  const sectorBytes = findSectorSize(source);
  if (source.bytes % sectorBytes !== 0)
    throw new DiskImageError(source.bytes, `the image ends within a block of ${sectorBytes} bytes`);
  checkProtectiveMbr(source.read(0, 512));
  const disk = new Disk(source, sectorBytes);
  const primary = disk.header(1, 'header');
  const backup = disk.header(disk.last, 'backup header');
  disk.compare(primary, backup);
  return {
    sectorBytes,
    diskUuid: parseGuid(primary.diskGuid),
    entriesOffset: primary.entriesAt * sectorBytes,
    partitions: readPartitions(primary, sectorBytes),
  };
}

/** Whether there is a table's signature where one of the block sizes puts it: what else follows may be wrong. */
export function hasPartitionTable(source: ByteSource): boolean {
  return sectorSizes.some((bytes) => isHeader(source, bytes));
}

function isHeader(source: ByteSource, offset: number): boolean {
  return source.bytes >= offset + 512 && equalBytes(source.read(offset, signature.length), signature);
}

function findSectorSize(source: ByteSource): number {
  const [found, other] = sectorSizes.filter((bytes) => isHeader(source, bytes));
  if (found === undefined)
    throw new DiskImageError(512, 'there is no GUID partition table for blocks of 512 or 4096 bytes');
  if (other !== undefined)
    throw new DiskImageError(other, 'there are two partition tables, for blocks of 512 and of 4096 bytes');
  return found;
}

/** Section 5.2.3: one record, of type 0xEE, from block 1 on. Where there are more, an older reader sees another disk. */
function checkProtectiveMbr(block: Uint8Array): void {
  const view = viewOf(block);
  if (view.getUint16(mbr.signature, true) !== 0xaa55)
    throw new DiskImageError(mbr.signature, 'there is no protective MBR before the partition table');
  const offsets = [0, 1, 2, 3].map((index) => mbr.records + index * mbr.recordBytes);
  const used = offsets.filter((offset) => view.getUint8(offset + 4) !== 0);
  const foreign = used.find((offset) => view.getUint8(offset + 4) !== mbr.protective);
  if (foreign !== undefined) {
    const type = view.getUint8(foreign + 4).toString(16);
    throw new DiskImageError(foreign, `the MBR has a partition of its own, of type 0x${type} (a hybrid MBR)`);
  }
  const [record = mbr.records, second] = used;
  if (second !== undefined) throw new DiskImageError(second, 'the MBR has two protective partitions');
  if (used.length === 0 || view.getUint32(record + 8, true) !== 1)
    throw new DiskImageError(record, 'the MBR has no protective partition from block 1 on');
}

/** The blocks of an image. */
class Disk {
  readonly #source: ByteSource;
  readonly #sectorBytes: number;
  /** The last block of the image. */
  readonly last: number;

  constructor(source: ByteSource, sectorBytes: number) {
    this.#source = source;
    this.#sectorBytes = sectorBytes;
    this.last = source.bytes / sectorBytes - 1;
  }

  /** Table 5.5: a header, whose sums and own fields have to be right, and its entries. */
  header(lba: number, what: string): Header {
    const offset = lba * this.#sectorBytes;
    const block = this.#source.read(offset, this.#sectorBytes);
    const view = viewOf(block);
    const fail = (field: number, reason: string): never => {
      throw new DiskImageError(offset + field, `the ${what} of the partition table ${reason}`);
    };
    if (!equalBytes(block.subarray(0, signature.length), signature)) fail(0, 'is not in its place');
    const found = view.getUint32(8, true);
    if (found !== revision) fail(8, `has the unknown revision 0x${found.toString(16)}`);
    const bytes = view.getUint32(12, true);
    if (bytes < headerBytesMin || bytes > this.#sectorBytes) fail(12, `cannot have ${bytes} bytes`);
    if (sumOf(block.subarray(0, bytes), 16) !== view.getUint32(16, true)) fail(16, 'has a wrong checksum');
    if (view.getUint32(20, true) !== 0) fail(20, 'has something in its reserved field');
    const place = (field: number, name: string): number => {
      const value = view.getBigUint64(field, true);
      return value <= BigInt(this.last)
        ? Number(value)
        : fail(field, `puts ${name} into block ${value}, and the last is ${this.last}`);
    };
    const own = place(24, 'itself');
    if (own !== lba) fail(24, `says that it is in block ${own}, and is in ${lba}`);
    const count = view.getUint32(80, true);
    if (count < 1 || count > entriesMax) fail(80, `has ${count} entries; from 1 to ${entriesMax} are read`);
    const size = view.getUint32(84, true);
    if (size !== entryBytes) fail(84, `has entries of ${size} bytes; only ${entryBytes} are read`);
    const entriesAt = place(72, 'its entries');
    const entriesBlocks = Math.ceil((count * entryBytes) / this.#sectorBytes);
    if (entriesAt + entriesBlocks > this.last + 1) fail(72, 'has entries beyond the end of the image');
    const entries = this.#source.read(entriesAt * this.#sectorBytes, count * entryBytes);
    if (crc32(entries) !== view.getUint32(88, true)) fail(88, 'has another checksum than its entries');
    return {
      offset,
      alternate: place(32, 'its other copy'),
      firstUsable: place(40, 'the first partition'),
      lastUsable: place(48, 'the last partition'),
      diskGuid: block.subarray(56, 72),
      entriesAt,
      entriesCount: count,
      entriesBlocks,
      entries,
    };
  }

  /** Both copies have to say the same, and everything its own blocks: header, entries, partitions, entries, backup. */
  compare(primary: Header, backup: Header): void {
    if (primary.alternate !== this.last)
      throw new DiskImageError(
        primary.offset + 32,
        `the backup of the partition table is said to be in block ${primary.alternate}, which is not the last, ${this.last}`,
      );
    if (backup.alternate !== 1)
      throw new DiskImageError(
        backup.offset + 32,
        'the backup of the partition table belongs to another header',
      );
    const differences: readonly (readonly [number, boolean])[] = [
      [40, primary.firstUsable === backup.firstUsable],
      [48, primary.lastUsable === backup.lastUsable],
      [56, equalBytes(primary.diskGuid, backup.diskGuid)],
      [80, primary.entriesCount === backup.entriesCount],
      [88, equalBytes(primary.entries, backup.entries)],
    ];
    const difference = differences.find(([, same]) => !same);
    if (difference !== undefined)
      throw new DiskImageError(
        backup.offset + difference[0],
        'the partition table and its backup say different things',
      );
    const order: readonly (readonly [number, string, boolean])[] = [
      [primary.offset + 72, 'the entries lie over the header', primary.entriesAt >= 2],
      [
        primary.offset + 40,
        'partitions may begin within the entries',
        primary.entriesAt + primary.entriesBlocks <= primary.firstUsable,
      ],
      [primary.offset + 48, 'there is no room for partitions', primary.firstUsable <= primary.lastUsable],
      [
        backup.offset + 72,
        'partitions may end within the entries of the backup',
        primary.lastUsable < backup.entriesAt,
      ],
      [
        backup.offset + 72,
        'the entries of the backup lie over its header',
        backup.entriesAt + backup.entriesBlocks <= this.last,
      ],
    ];
    const fault = order.find(([, , sound]) => !sound);
    if (fault !== undefined) throw new DiskImageError(fault[0], fault[1]);
  }
}

function readPartitions(header: Header, sectorBytes: number): readonly Partition[] {
  const entriesOffset = header.entriesAt * sectorBytes;
  const partitions: Partition[] = [];
  for (let index = 0; index < header.entriesCount; index++) {
    const entry = header.entries.subarray(index * entryBytes, (index + 1) * entryBytes);
    const partition = parseEntry(entry, {
      number: index + 1,
      offset: entriesOffset + index * entryBytes,
      sectorBytes,
      firstUsable: header.firstUsable,
      lastUsable: header.lastUsable,
    });
    if (partition !== undefined) partitions.push(partition);
  }
  const entryOf = ({ number }: Partition): number => entriesOffset + (number - 1) * entryBytes;
  checkOverlap(partitions, entryOf);
  checkUnique(partitions, entryOf);
  return partitions;
}

function checkOverlap(partitions: readonly Partition[], entryOf: (partition: Partition) => number): void {
  const byPlace = [...partitions].sort((a, b) => a.offset - b.offset);
  for (const [index, partition] of byPlace.entries()) {
    const next = byPlace[index + 1];
    if (next === undefined || partition.offset + partition.bytes <= next.offset) continue;
    throw new DiskImageError(
      entryOf(next),
      `the partitions ${partition.number} and ${next.number} overlap at byte ${next.offset}`,
    );
  }
}

/** Section 5.3.3: each has a GUID of its own. With verity it says which hashes belong to which data. */
function checkUnique(partitions: readonly Partition[], entryOf: (partition: Partition) => number): void {
  const seen = new Map<string, number>();
  for (const partition of partitions) {
    const other = seen.get(partition.uuid);
    if (other !== undefined)
      throw new DiskImageError(
        entryOf(partition) + 16,
        `the partitions ${other} and ${partition.number} have the same UUID, ${partition.uuid}`,
      );
    seen.set(partition.uuid, partition.number);
  }
}

/** The CRC-32 of the bytes with the four at `field` as zero. */
function sumOf(bytes: Uint8Array, field: number): number {
  return crc32(bytes.subarray(field + 4), crc32(new Uint8Array(4), crc32(bytes.subarray(0, field))));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
