import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { memorySource } from '../../support/memory-source.ts';
import { dissect } from '../../../src/ddi/dissect.ts';
import { DiskImageError } from '../../../src/ddi/errors.ts';
import { readPartitionTable } from '../../../src/ddi/gpt.ts';
import { readVerityTree, type VerityTree } from '../../../src/ddi/verity-superblock.ts';
import { makeDisk } from '../../support/disk-image.ts';
import { verityPair } from '../../support/verity-partitions.ts';

const salt = Buffer.alloc(32, 7);

/** A disk whose root holds `data` and has hashes, changed before the disk is made. */
function treeOf(data: Buffer, change: (hashes: Buffer) => unknown = () => undefined): VerityTree {
  const { root, verity } = verityPair(data, { salt, first: 40 });
  change(verity.content);
  const image = makeDisk({ blocks: 4096, partitions: [root, verity] });
  const found = dissect(readPartitionTable(memorySource(image)), 'x86-64');
  const [dataPartition, hashes] = [found.get('root'), found.get('root-verity')];
  if (dataPartition === undefined || hashes === undefined) throw new Error('not found');
  return readVerityTree(memorySource(image), dataPartition, hashes);
}

function refusal(change: (hashes: Buffer) => unknown): [number, string] {
  try {
    treeOf(Buffer.alloc(4096 * 4), change);
  } catch (error) {
    if (error instanceof DiskImageError) return [error.offset, error.reason];
    throw error;
  }
  throw new Error('the hashes were taken');
}

describe('hashes of dm-verity', () => {
  test.each([1, 2, 4, 128, 129, 300])('of %i blocks', (blocks) => {
    const data = Buffer.alloc(4096 * blocks, 'data');
    expect(treeOf(data)).toMatchObject({
      dataBlockBytes: 4096,
      hashBlockBytes: 4096,
      dataBlocks: blocks,
      hashStartBlock: 1,
      salt: salt.toString('hex'),
    });
    if (blocks === 1)
      expect(treeOf(data).rootHash).toBe(createHash('sha256').update(salt).update(data).digest('hex'));
  });

  /** Where the partition of hashes is: 4 blocks of 4096 bytes behind block 40. */
  const at = 40 * 512 + 4 * 4096;
  const cases: readonly [string, number, (hashes: Buffer) => unknown, string][] = [
    ['no superblock', 0, (hashes) => hashes.fill(0, 0, 8), 'no hashes of dm-verity'],
    ['version', 8, (hashes) => hashes.writeUInt32LE(2, 8), 'unknown format 2'],
    ['type', 12, (hashes) => hashes.writeUInt32LE(0, 12), 'type 0'],
    ['sha512', 32, (hashes) => hashes.write('sha512', 32), 'by sha512; only sha256'],
    ['no algorithm', 32, (hashes) => hashes.fill(0xff, 32, 64), 'an unknown algorithm'],
    ['data blocks of 8192', 64, (hashes) => hashes.writeUInt32LE(8192, 64), 'blocks of 8192'],
    ['data blocks of 0', 64, (hashes) => hashes.writeUInt32LE(0, 64), 'blocks of 0'],
    ['hash blocks of 3', 68, (hashes) => hashes.writeUInt32LE(3, 68), 'blocks of 3'],
    ['no data', 72, (hashes) => hashes.writeBigUInt64LE(0n, 72), 'of 0 blocks'],
    ['too much data', 72, (hashes) => hashes.writeBigUInt64LE(5n, 72), 'of 5 blocks, and partition 1 has 4'],
    ['most data', 72, (hashes) => hashes.writeBigUInt64LE(2n ** 64n - 1n, 72), 'partition 1 has 4'],
    ['salt', 80, (hashes) => hashes.writeUInt16LE(257, 80), 'salt of 257'],
    ['other salt', 4096, (hashes) => hashes.writeUInt8(8, 88), 'the UUIDs of the partitions 1 and 2 state'],
    ['other hashes', 4096, (hashes) => hashes.writeUInt8(8, 4100), 'has the root hash'],
  ];
  test.each(cases)('%s', (_name, field, change, reason) => {
    expect(refusal(change)).toEqual([at + field, expect.stringContaining(reason)]);
  });

  test('that end early', () => {
    const { root, verity } = verityPair(Buffer.alloc(4096 * 300), { salt, first: 40 });
    const short = { ...verity, last: verity.last - 8, content: verity.content.subarray(0, -4096) };
    const image = makeDisk({ blocks: 4096, partitions: [root, short] });
    const found = dissect(readPartitionTable(memorySource(image)), 'x86-64');
    const [data, hashes] = [found.get('root'), found.get('root-verity')];
    if (data === undefined || hashes === undefined) throw new Error('not found');
    expect(() => readVerityTree(memorySource(image), data, hashes)).toThrow('ends before the 4 blocks');
  });
});
