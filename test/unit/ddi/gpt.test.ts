import { describe, expect, test } from 'vitest';
import { memorySource } from '../../support/memory-source.ts';
import { DiskImageError } from '../../../src/ddi/errors.ts';
import { hasPartitionTable, readPartitionTable } from '../../../src/ddi/gpt.ts';
import { makeDisk, sumTable, testUuid, type TestPartition } from '../../support/disk-image.ts';

const root: TestPartition = {
  type: '4f68bce3-e8cd-4db1-96e7-fbcaf984b709',
  uuid: testUuid(1),
  first: 40,
  last: 47,
  attributes: 1n << 60n,
  label: 'root-ä-1',
};
const home: TestPartition = { ...root, uuid: testUuid(2), first: 48, last: 48, attributes: 0n, label: '' };

const table = (image: Uint8Array): ReturnType<typeof readPartitionTable> =>
  readPartitionTable(memorySource(image));

/** The offset at which the image is refused, and why. */
function refusal(image: Uint8Array): [number, string] {
  try {
    table(image);
  } catch (error) {
    if (error instanceof DiskImageError) return [error.offset, error.reason];
    throw error;
  }
  throw new Error('the image was taken');
}

/** A sound disk of 128 blocks with other bytes in it, and sums that are right all the same. */
function changed(change: (image: Buffer) => void, partitions: readonly TestPartition[] = [root]): Buffer {
  const image = makeDisk({ partitions });
  change(image);
  sumTable(image);
  return image;
}

/** The same change in both tables. */
const inBoth = (change: (header: Buffer, entries: Buffer) => void): Buffer =>
  changed((image) => {
    change(image.subarray(512), image.subarray(1024));
    change(image.subarray(127 * 512), image.subarray(95 * 512));
  });

describe('a sound table', () => {
  test.each([512, 4096])('in blocks of %i bytes', (sectorBytes) => {
    const image = makeDisk({ sectorBytes, partitions: [root, home] });
    expect(table(image)).toEqual({
      sectorBytes,
      diskUuid: testUuid(0),
      entriesOffset: 2 * sectorBytes,
      partitions: [
        {
          number: 1,
          type: root.type,
          uuid: testUuid(1),
          attributes: 1n << 60n,
          label: 'root-ä-1',
          offset: 40 * sectorBytes,
          bytes: 8 * sectorBytes,
        },
        {
          number: 2,
          type: root.type,
          uuid: testUuid(2),
          attributes: 0n,
          label: '',
          offset: 48 * sectorBytes,
          bytes: sectorBytes,
        },
      ],
    });
    expect(hasPartitionTable(memorySource(image))).toBe(true);
  });

  test('without partitions, and with fewer entries', () => {
    expect(table(makeDisk({ partitions: [] })).partitions).toEqual([]);
    expect(table(makeDisk({ entries: 4, partitions: [root] })).partitions).toHaveLength(1);
  });

  test('keeps the number of an entry behind unused ones, and a name of 36 units', () => {
    const unused = { ...root, type: '00000000-0000-0000-0000-000000000000', uuid: testUuid(9) };
    const [found] = table(makeDisk({ partitions: [unused, { ...root, label: 'x'.repeat(36) }] })).partitions;
    expect(found).toMatchObject({ number: 2, label: 'x'.repeat(36) });
  });
});

describe('what is no table', () => {
  test.each([0, 1, 511, 512, 1023])('an image of %i bytes', (bytes) => {
    expect(refusal(makeDisk({ partitions: [root] }).subarray(0, bytes))[1]).toContain('no GUID partition');
  });

  test('an image without one', () => {
    expect(refusal(Buffer.alloc(65536))).toEqual([512, expect.stringContaining('no GUID partition table')]);
    expect(hasPartitionTable(memorySource(Buffer.alloc(65536)))).toBe(false);
  });

  test('two, for either size of blocks', () => {
    const image = changed((bytes) => bytes.write('EFI PART', 4096, 'latin1'));
    expect(refusal(image)).toEqual([4096, expect.stringContaining('two partition tables')]);
  });

  test('an image that ends within a block, or early, or late', () => {
    const image = makeDisk({ partitions: [root] });
    const longer = Buffer.concat([image, Buffer.alloc(1024)]);
    expect(refusal(longer.subarray(0, -1))[1]).toContain('ends within a block');
    expect(refusal(longer)).toEqual([129 * 512, expect.stringContaining('backup header')]);
    expect(refusal(image.subarray(0, -512))).toEqual([544, expect.stringContaining('the last is 126')]);
  });
});

describe('an MBR that is not protective', () => {
  test('without its signature', () => {
    expect(refusal(changed((image) => image.fill(0, 510, 512)))[0]).toBe(510);
  });
  test('with no record, or one that begins elsewhere', () => {
    const reason = expect.stringContaining('no protective partition') as string;
    expect(refusal(changed((image) => image.fill(0, 446, 510)))).toEqual([446, reason]);
    expect(refusal(changed((image) => image.writeUInt32LE(0, 454)))).toEqual([446, reason]);
  });
  test('with a partition of its own', () => {
    const hybrid = changed((image) => image.writeUInt8(0x83, 462 + 4));
    expect(refusal(hybrid)).toEqual([462, expect.stringContaining('0x83')]);
    const twice = changed((image) => image.copy(image, 494, 446, 462));
    expect(refusal(twice)).toEqual([494, expect.stringContaining('two protective')]);
  });
});

describe('a header', () => {
  test('with a wrong checksum, of its own or of its entries', () => {
    const image = makeDisk({ partitions: [root] });
    const own = Buffer.from(image);
    own.writeUInt8(1, 512 + 56);
    expect(refusal(own)).toEqual([528, expect.stringContaining('wrong checksum')]);
    const entries = Buffer.from(image);
    entries.writeUInt8(1, 1024 + 127);
    expect(refusal(entries)).toEqual([600, expect.stringContaining('than its entries')]);
    const backup = Buffer.from(image);
    backup.writeUInt8(1, 127 * 512 + 56);
    expect(refusal(backup)).toEqual([
      127 * 512 + 16,
      expect.stringContaining('the backup header of the partition table has a wrong checksum'),
    ]);
  });

  const huge = 2n ** 64n - 1n;
  const fields: readonly [string, number, (header: Buffer) => unknown, string][] = [
    ['revision', 8, (header) => header.writeUInt32LE(0x20000, 8), 'unknown revision 0x20000'],
    ['size below the least', 12, (header) => header.writeUInt32LE(91, 12), 'cannot have 91 bytes'],
    ['size beyond its block', 12, (header) => header.writeUInt32LE(513, 12), 'cannot have 513 bytes'],
    ['reserved field', 20, (header) => header.writeUInt32LE(1, 20), 'reserved'],
    ['own place', 24, (header) => header.writeBigUInt64LE(3n, 24), 'says that it is in block 3'],
    ['own place beyond', 24, (header) => header.writeBigUInt64LE(huge, 24), 'the last is 127'],
    ['other copy', 32, (header) => header.writeBigUInt64LE(huge, 32), 'the last is 127'],
    ['first usable', 40, (header) => header.writeBigUInt64LE(128n, 40), 'the last is 127'],
    ['last usable', 48, (header) => header.writeBigUInt64LE(huge, 48), 'the last is 127'],
    ['entries beyond', 72, (header) => header.writeBigUInt64LE(huge, 72), 'the last is 127'],
    ['entries over the end', 72, (header) => header.writeBigUInt64LE(97n, 72), 'beyond the end'],
    ['no entries', 80, (header) => header.writeUInt32LE(0, 80), '0 entries'],
    ['too many entries', 80, (header) => header.writeUInt32LE(257, 80), '257 entries'],
    ['2^32 - 1 entries', 80, (header) => header.writeUInt32LE(0xffffffff, 80), '4294967295 entries'],
    ['entry size 256', 84, (header) => header.writeUInt32LE(256, 84), 'entries of 256 bytes'],
    ['entry size 0', 84, (header) => header.writeUInt32LE(0, 84), 'entries of 0 bytes'],
  ];
  test.each(fields)('%s', (_name, field, change, reason) => {
    expect(refusal(inBoth(change))).toEqual([512 + field, expect.stringContaining(reason)]);
  });

  test('whose backup is elsewhere, is another one’s, or says something else', () => {
    const elsewhere = changed((image) => image.writeBigUInt64LE(126n, 512 + 32));
    expect(refusal(elsewhere)).toEqual([544, expect.stringContaining('not the last, 127')]);
    const another = changed((image) => image.writeBigUInt64LE(2n, 127 * 512 + 32));
    expect(refusal(another)[1]).toContain('belongs to another header');
    for (const field of [40, 48, 56, 95 * 512 - 127 * 512 + 32]) {
      const image = changed((bytes) => bytes.writeUInt8(41, 127 * 512 + field));
      expect(refusal(image)[1]).toContain('say different things');
    }
  });

  test('whose parts lie over one another', () => {
    const cases: readonly [(header: Buffer) => unknown, string][] = [
      [(header) => header.writeBigUInt64LE(33n, 40), 'partitions may begin within the entries'],
      [(header) => header.writeBigUInt64LE(33n, 48), 'no room'],
      [(header) => header.writeBigUInt64LE(95n, 48), 'within the entries of the backup'],
    ];
    for (const [change, reason] of cases) expect(refusal(inBoth(change))[1]).toContain(reason);
    const low = changed((image) => {
      image.copyWithin(512, 1024, 1024 + 512);
      image.writeBigUInt64LE(1n, 512 + 72);
    });
    expect(() => table(low)).toThrow(DiskImageError);
    const over = changed((image) => image.writeBigUInt64LE(96n, 127 * 512 + 72), []);
    expect(() => table(over)).toThrow(DiskImageError);
  });
});

describe('partitions', () => {
  const refused = (...partitions: readonly TestPartition[]): [number, string] =>
    refusal(makeDisk({ partitions }));

  test('outside of what is usable, or of no length', () => {
    expect(refused({ ...root, first: 33 })).toEqual([1056, expect.stringContaining('from 34 to 94')]);
    expect(refused({ ...root, last: 95 })).toEqual([1064, expect.stringContaining('ends in block 95')]);
    expect(refused({ ...root, first: 48 })).toEqual([1056, expect.stringContaining('ends before, in 47')]);
    const far = inBoth((_header, entries) => entries.writeBigUInt64LE(2n ** 64n - 1n, 40));
    expect(refusal(far)[1]).toContain('ends in block 18446744073709551615');
  });

  test('that overlap, in one block or wholly, in any order', () => {
    const overlap = expect.stringMatching(/partitions \d and \d overlap/) as string;
    expect(refused(root, { ...home, first: 47 })).toEqual([1024 + 128, overlap]);
    expect(refused({ ...home, first: 47 }, root)).toEqual([1024, overlap]);
    expect(refused(root, { ...home, first: 42, last: 42 })).toEqual([1024 + 128, overlap]);
    expect(refused(root, { ...root, uuid: testUuid(2) })[1]).toEqual(overlap);
  });

  test('without a UUID, or with another one’s', () => {
    expect(refused({ ...root, uuid: '00000000-0000-0000-0000-000000000000' })[0]).toBe(1040);
    expect(refused(root, { ...home, uuid: root.uuid })).toEqual([
      1024 + 128 + 16,
      expect.stringContaining('same UUID'),
    ]);
  });

  test('with a name that is no text', () => {
    expect(refused({ ...root, label: '\ud800x' })).toEqual([1080, expect.stringContaining('UTF-16')]);
  });
});
