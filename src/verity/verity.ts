import type { hash as Hash } from 'node:crypto';
import type { Digest } from '../base/digest.ts';
import { digestFromBytes } from '../base/digest.ts';

/** The size of the blocks that fs-verity hashes, in bytes. */
export const verityBlockBytes = 4096;

const digestBytes = 32;

/** One level of the Merkle tree: the digests of the level below, not yet a whole block. */
interface Level {
  readonly block: Buffer;
  used: number;
}

/** Loaded with the first block: that takes milliseconds, and a program that only mounts hashes nothing. */
let hash: typeof Hash | undefined;

/** SHA-256 as a binary string: it costs a third less than an object of Hash, and than a buffer for each digest. */
function sha256(bytes: Uint8Array): string {
  hash ??= process.getBuiltinModule('node:crypto').hash;
  return hash('sha256', bytes, 'binary');
}

/**
 * The fs-verity digest of a file of any size, fed in chunks of any size: SHA-256, blocks of 4096 bytes, no salt.
 * See "Merkle tree" and "fs-verity descriptor" in Documentation/filesystems/fsverity.rst of Linux.
 */
export class VerityHasher {
  readonly #data = Buffer.alloc(verityBlockBytes);
  readonly #levels: Level[] = [];
  #used = 0;
  #size = 0;

  /** Take the next bytes of the file. The chunk is not kept. */
  update(chunk: Uint8Array): void {
    this.#size += chunk.length;
    let offset = 0;
    if (this.#used > 0) {
      offset = Math.min(chunk.length, verityBlockBytes - this.#used);
      this.#data.set(chunk.subarray(0, offset), this.#used);
      this.#used += offset;
      // A full block waits until more comes: a file of one block is its own tree.
      if (offset === chunk.length) return;
      this.#push(0, sha256(this.#data));
      this.#used = 0;
    }
    while (chunk.length - offset > verityBlockBytes) {
      this.#push(0, sha256(chunk.subarray(offset, offset + verityBlockBytes)));
      offset += verityBlockBytes;
    }
    this.#data.set(chunk.subarray(offset), 0);
    this.#used = chunk.length - offset;
  }

  /** The digest of everything taken. Nothing may follow. */
  digest(): Digest {
    return describedDigest(this.#size, this.#root());
  }

  /** Forgets what was taken: another file may follow. */
  reset(): void {
    this.#used = 0;
    this.#size = 0;
    for (const level of this.#levels) level.used = 0;
  }

  /** The root hash: 32 zero bytes for an empty file. */
  #root(): string {
    if (this.#size === 0) return emptyRoot;
    let last = sha256(this.#data.fill(0, this.#used));
    for (let index = 0; ; index++) {
      const level = this.#levels[index];
      // A level that nothing was pushed to is one of a larger file before.
      if (level === undefined || level.used === 0) return last;
      this.#push(index, last);
      last = sha256(level.block.fill(0, level.used));
    }
  }

  #push(index: number, digest: string): void {
    const level = (this.#levels[index] ??= { block: Buffer.alloc(verityBlockBytes), used: 0 });
    // As with data, a full block of digests is only hashed once another digest follows it.
    if (level.used === verityBlockBytes) {
      this.#push(index + 1, sha256(level.block));
      level.used = 0;
    }
    level.block.write(digest, level.used, 'latin1');
    level.used += digestBytes;
  }
}

const emptyRoot = '\0'.repeat(digestBytes);

/** The fsverity_descriptor of a file, but for its size and root hash. */
const descriptor = Buffer.alloc(256);
descriptor.writeUInt8(1, 0); // version
descriptor.writeUInt8(1, 1); // hash algorithm: SHA-256
descriptor.writeUInt8(12, 2); // log2 of the block size
const sizeOffset = 8;
const rootOffset = 16;

/** The digest of the fsverity_descriptor of a file of `size` bytes whose Merkle tree has the root hash `root`. */
function describedDigest(size: number, root: string): Digest {
  descriptor.writeUInt32LE(size % 2 ** 32, sizeOffset);
  descriptor.writeUInt32LE(Math.floor(size / 2 ** 32), sizeOffset + 4);
  descriptor.write(root, rootOffset, 'latin1');
  return digestFromBytes(Buffer.from(sha256(descriptor), 'latin1'));
}

const lastBlock = Buffer.alloc(verityBlockBytes);
let wholeFiles: VerityHasher | undefined;

/** The fs-verity digest of a file that holds `bytes`. */
export function verityDigest(bytes: Uint8Array): Digest {
  if (bytes.length > 0 && bytes.length <= verityBlockBytes) {
    // Most files have one block, which is the whole tree.
    lastBlock.set(bytes);
    return describedDigest(bytes.length, sha256(lastBlock.fill(0, bytes.length)));
  }
  // One for all: what a hasher needs is larger than most files.
  wholeFiles ??= new VerityHasher();
  wholeFiles.reset();
  wholeFiles.update(bytes);
  return wholeFiles.digest();
}
