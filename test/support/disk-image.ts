import { crc32 } from 'node:zlib';

/** A partition of an image that a test makes. Blocks are counted from `first` to `last`. */
export interface TestPartition {
  readonly type: string;
  readonly uuid: string;
  readonly first: number;
  readonly last: number;
  readonly attributes?: bigint;
  readonly label?: string;
  readonly content?: Uint8Array;
}

/** What an image is made of. */
export interface TestDisk {
  readonly sectorBytes?: number;
  /** The image's size, in blocks. */
  readonly blocks?: number;
  readonly entries?: number;
  readonly partitions: readonly TestPartition[];
}

/** A UUID that ends with `number`. */
export function testUuid(number: number): string {
  return `c0ffee00-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** A disk image with a partition table by the UEFI specification, its backup, and the partitions' contents. */
export function makeDisk({ sectorBytes = 512, blocks = 128, entries = 128, partitions }: TestDisk): Buffer {
  const image = Buffer.alloc(blocks * sectorBytes);
  image.set([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0], 446);
  image.writeUInt32LE(blocks - 1, 446 + 12);
  image.writeUInt16LE(0xaa55, 510);
  const array = Buffer.alloc(entries * 128);
  partitions.forEach(({ type, uuid, first, last, attributes = 0n, label = '', content }, index) => {
    const entry = array.subarray(index * 128, (index + 1) * 128);
    guid(type).copy(entry, 0);
    guid(uuid).copy(entry, 16);
    entry.writeBigUInt64LE(BigInt(first), 32);
    entry.writeBigUInt64LE(BigInt(last), 40);
    entry.writeBigUInt64LE(attributes, 48);
    entry.write(label, 56, 72, 'utf16le');
    if (content !== undefined) image.set(content, first * sectorBytes);
  });
  const arrayBlocks = Math.ceil(array.length / sectorBytes);
  const last = blocks - 1;
  const usable = { first: 2 + arrayBlocks, last: last - arrayBlocks - 1 };
  for (const [own, other, at] of [
    [1, last, 2],
    [last, 1, last - arrayBlocks],
  ] as const) {
    array.copy(image, at * sectorBytes);
    const header = image.subarray(own * sectorBytes, own * sectorBytes + sectorBytes);
    header.write('EFI PART', 'latin1');
    header.writeUInt32LE(0x10000, 8);
    header.writeUInt32LE(92, 12);
    [own, other, usable.first, usable.last].forEach((lba, index) => {
      header.writeBigUInt64LE(BigInt(lba), 24 + 8 * index);
    });
    guid(testUuid(0)).copy(header, 56);
    header.writeBigUInt64LE(BigInt(at), 72);
    header.writeUInt32LE(entries, 80);
    header.writeUInt32LE(128, 84);
  }
  sumTable(image, sectorBytes);
  return image;
}

/** Makes the checksums of both headers right again, as far as their fields lead into the image. */
export function sumTable(image: Buffer, sectorBytes = 512): void {
  for (const offset of [sectorBytes, image.length - sectorBytes]) {
    const header = image.subarray(offset, offset + sectorBytes);
    const start = Number(header.readBigUInt64LE(72)) * sectorBytes;
    const bytes = header.readUInt32LE(80) * 128;
    if (start + bytes <= image.length) header.writeUInt32LE(crc32(image.subarray(start, start + bytes)), 88);
    header.writeUInt32LE(0, 16);
    header.writeUInt32LE(crc32(header.subarray(0, header.readUInt32LE(12))), 16);
  }
}

function guid(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}
