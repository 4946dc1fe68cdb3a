import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { toBase64 } from '../../src/base/bytes.ts';
import type { Certificate } from '../../src/trust/certificate.ts';
import type { PrivateKey } from '../../src/trust/private-key.ts';
import { signContentPkcs7 } from '../../src/trust/sign-pkcs7.ts';
import { makeDisk, testUuid, type TestPartition } from './disk-image.ts';

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

/** Devices of the device mapper, whoever made them. */
export function mapperDevices(): string[] {
  return readdirSync('/sys/block').filter((name) => name.startsWith('dm-'));
}

/** Whole blocks of 4096 bytes, as dm-verity hashes them. */
export function wholeBlocks(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((4096 - (content.length % 4096)) % 4096)]);
}

/** A disk image for x86-64 with `content` in root and its hashes. */
export function hashedDisk(content: Buffer): Buffer {
  const { root, verity } = verityPair(wholeBlocks(content), { salt: Buffer.alloc(32, 3), first: 40 });
  return makeDisk({ blocks: verity.last + 41, partitions: [root, verity] });
}

/** What a signed disk is to say that its root hash does not: other data than was hashed, and another root hash in the signature. */
interface Lies {
  readonly data?: Buffer;
  readonly stated?: string;
}

/**
 * A disk image for x86-64 with `content` in root and its root hash signed in it, as systemd-repart makes it, and a partition that
 * nobody vouches for.
 */
export function signedDisk(
  content: Buffer,
  { key, certificate }: { readonly key: PrivateKey; readonly certificate: Certificate },
  lies: Lies = {},
): Buffer {
  const { root, verity, rootHash } = verityPair(wholeBlocks(content), {
    salt: Buffer.alloc(32, 3),
    first: 40,
  });
  const text = JSON.stringify({
    rootHash: lies.stated ?? rootHash,
    certificateFingerprint: '00'.repeat(32),
    signature: toBase64(signContentPkcs7(Buffer.from(rootHash), key, [certificate])),
  });
  const first = verity.last + 1;
  const partitions: readonly TestPartition[] = [
    { ...root, content: lies.data ?? root.content },
    verity,
    {
      type: '41092b05-9fc8-4523-994f-2def0408b176',
      uuid: testUuid(8),
      first,
      last: first + 31,
      content: Buffer.from(text),
    },
    {
      type: '933ac7e1-2eb4-4f13-b844-0e14e2aef915',
      uuid: testUuid(9),
      first: first + 32,
      last: first + 39,
      content: randomBytes(4096),
    },
  ];
  return makeDisk({ blocks: first + 80, partitions });
}
