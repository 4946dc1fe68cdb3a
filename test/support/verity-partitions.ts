import { createHash } from 'node:crypto';
import type { TestPartition } from './disk-image.ts';

type Filled = TestPartition & { readonly content: Buffer };

/** Root and root-verity for x86-64: the data with its hashes by dm-verity, one after the other from block `first` of 512 on. */
export function verityPair(
  data: Buffer,
  { salt, first }: { readonly salt: Buffer; readonly first: number },
): { readonly root: Filled; readonly verity: Filled; readonly rootHash: string } {
  const hash = (block: Uint8Array): Buffer => createHash('sha256').update(salt).update(block).digest();
  const levels: Buffer[] = [];
  let level = data;
  while (level.length > 4096) {
    const digests: Buffer[] = [];
    for (let at = 0; at < level.length; at += 4096) digests.push(hash(level.subarray(at, at + 4096)));
    const joined = Buffer.concat(digests);
    level = Buffer.concat([joined, Buffer.alloc((4096 - (joined.length % 4096)) % 4096)]);
    levels.unshift(level);
  }
  const rootHash = hash(level).toString('hex');
  const superblock = Buffer.alloc(4096);
  superblock.write('verity');
  superblock.writeUInt32LE(1, 8);
  superblock.writeUInt32LE(1, 12);
  superblock.fill(0xab, 16, 32);
  superblock.write('sha256', 32);
  superblock.writeUInt32LE(4096, 64);
  superblock.writeUInt32LE(4096, 68);
  superblock.writeBigUInt64LE(BigInt(data.length / 4096), 72);
  superblock.writeUInt16LE(salt.length, 80);
  salt.copy(superblock, 88);
  const hashes = Buffer.concat([superblock, ...levels]);
  const uuid = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const middle = first + data.length / 512;
  return {
    root: {
      type: '4f68bce3-e8cd-4db1-96e7-fbcaf984b709',
      uuid: uuid(rootHash.slice(0, 32)),
      first,
      last: middle - 1,
      content: data,
    },
    verity: {
      type: '2c7357ed-ebd2-46d9-aec1-23d437ec2bf5',
      uuid: uuid(rootHash.slice(32)),
      first: middle,
      last: middle + hashes.length / 512 - 1,
      content: hashes,
    },
    rootHash,
  };
}
