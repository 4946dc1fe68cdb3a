import { expect, test } from 'vitest';
import type { ByteSource } from '../../src/base/byte-source.ts';
import { DiskImageError } from '../../src/ddi/errors.ts';
import { dissect } from '../../src/ddi/dissect.ts';
import { readPartitionTable } from '../../src/ddi/gpt.ts';
import { readVerityTree } from '../../src/ddi/verity-superblock.ts';
import { makeDisk, sumTable, testUuid } from '../support/disk-image.ts';
import { Random } from '../support/random.ts';
import { verityPair } from '../support/verity-partitions.ts';
import { memorySource } from '../support/memory-source.ts';

const partitions = [1, 2, 3].map((number) => ({
  type: '4f68bce3-e8cd-4db1-96e7-fbcaf984b709',
  uuid: testUuid(number),
  first: 36 + 4 * number,
  last: 39 + 4 * number,
  label: `root-${number}`,
}));

/** A source that fails where more is read than there is, or more than is needed for a table. */
function guarded(image: Uint8Array): ByteSource {
  let left = 96 * 1024;
  return {
    bytes: image.length,
    read: (offset, length) => {
      left -= length;
      if (offset < 0 || offset + length > image.length || left < 0)
        throw new RangeError(`read ${length} bytes from ${offset} on`);
      return image.subarray(offset, offset + length);
    },
  };
}

/** What is taken keeps what is promised; what is refused has a reason and a place. Says whether it was taken. */
function attempt(image: Uint8Array): boolean {
  try {
    const table = readPartitionTable(guarded(image));
    const byPlace = [...table.partitions].sort((a, b) => a.offset - b.offset);
    let end = 0;
    for (const { offset, bytes, label } of byPlace) {
      expect(offset).toBeGreaterThan(end === 0 ? table.sectorBytes : end - 1);
      expect(bytes).toBeGreaterThan(0);
      expect(Buffer.from(label).toString()).toBe(label);
      end = offset + bytes;
    }
    expect(end).toBeLessThanOrEqual(image.length - table.sectorBytes);
    return true;
  } catch (error) {
    if (!(error instanceof DiskImageError)) throw error;
    expect(error.reason).not.toBe('');
    expect(error.offset).toBeGreaterThanOrEqual(0);
    return false;
  }
}

test('a table with one bit changed is refused: everything in it is under a checksum', () => {
  const image = makeDisk({ partitions });
  for (let bit = 0; bit < 92 * 8; bit += 3) {
    for (const header of [512, image.length - 512]) {
      const offset = header + (bit >> 3);
      const changed = image.with(offset, (image[offset] ?? 0) ^ (1 << (bit & 7)));
      expect(attempt(changed)).toBe(false);
    }
  }
});

test.each([512, 4096])('fields with other values and right checksums, blocks of %i', (sectorBytes) => {
  const image = makeDisk({ sectorBytes, blocks: 96, entries: 96, partitions });
  const random = new Random(sectorBytes);
  const values = [0n, 1n, 2n, 33n, 47n, 94n, 95n, 96n, 128n, 255n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];
  const sum = Math.ceil((96 * 128) / sectorBytes);
  let taken = 0;
  for (let round = 0; round < 1000; round++) {
    const changed = Buffer.from(image);
    const kind = random.below(4);
    for (let changes = 1 + random.below(3); changes > 0; changes--) {
      const field = kind === 0 ? 8 * random.below(12) : 8 * random.below(48);
      const value = values[random.below(values.length)] ?? 0n;
      const copies =
        kind === 0
          ? [sectorBytes, image.length - sectorBytes]
          : [2 * sectorBytes, image.length - (1 + sum) * sectorBytes];
      for (const copy of kind === 3 ? copies.slice(0, 1) : copies)
        changed.writeBigUInt64LE(value, copy + field);
    }
    sumTable(changed, sectorBytes);
    if (attempt(changed)) taken++;
  }
  expect(taken).toBeGreaterThan(0);
});

test('an image that ends early, or is changed anywhere', () => {
  const image = makeDisk({ partitions });
  const random = new Random(3);
  for (let length = 0; length < image.length; length += 1 + random.below(40))
    expect(attempt(image.subarray(0, length))).toBe(false);
  for (let round = 0; round < 500; round++) attempt(random.mutate(image, ['EFI PART', '\xee', '\0\0']));
});

test('a superblock of hashes with other fields is refused, or says the same', () => {
  const data = Buffer.alloc(4096 * 200, 'data');
  const { root, verity } = verityPair(data, { salt: Buffer.alloc(32, 1), first: 40 });
  const image = makeDisk({ blocks: 2048, partitions: [root, verity] });
  const found = dissect(readPartitionTable(memorySource(image)), 'x86-64');
  const [of, hashes] = [found.get('root'), found.get('root-verity')];
  if (of === undefined || hashes === undefined) throw new Error('the image has no pair');
  const sound = readVerityTree(memorySource(image), of, hashes);
  const random = new Random(4);
  const values = [0n, 1n, 32n, 199n, 200n, 256n, 512n, 8192n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];
  let refused = 0;
  for (let round = 0; round < 1000; round++) {
    const changed = Buffer.from(image);
    const value = values[random.below(values.length)] ?? 0n;
    changed.writeBigUInt64LE(value, hashes.offset + 4 * random.below(32));
    try {
      // Fewer blocks than there are hashes for leave the top as it is: then the kernel reads less.
      const { dataBlocks, ...rest } = readVerityTree(guarded(changed), of, hashes);
      expect({ ...rest, dataBlocks: sound.dataBlocks }).toEqual(sound);
      expect(dataBlocks).toBeLessThanOrEqual(sound.dataBlocks);
    } catch (error) {
      if (!(error instanceof DiskImageError)) throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(100);
});
