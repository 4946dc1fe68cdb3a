import { ImageNotImmutable } from '../../api/mount-delegation.ts';
import type { Digest } from '../../base/digest.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { openTmpfile, pread, reopen, writeAll } from '../../sys/file.ts';
import { VerityHasher } from '../../verity/verity.ts';

const chunkBytes = 1024 * 1024;

/** The bytes of `fd` from 0 to `bytes`, in chunks that are valid until the next one. */
function* chunks(fd: number, bytes: number): Generator<Uint8Array, void> {
  const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, Math.max(bytes, 1)));
  for (let offset = 0; offset < bytes;) {
    const got = pread(fd, buffer.subarray(0, Math.min(buffer.length, bytes - offset)), offset);
    if (got === 0) throw new ImageNotImmutable({ reason: `it ended after ${offset} of ${bytes} bytes` });
    yield buffer.subarray(0, got);
    offset += got;
  }
}

/** The fs-verity digest of the first `bytes` bytes of `fd`, by reading them. */
export function measureFile(fd: number, bytes: number): Digest {
  const hasher = new VerityHasher();
  for (const chunk of chunks(fd, bytes)) hasher.update(chunk);
  return hasher.digest();
}

/** A copy that nobody else can reach, and the digest of what is in it. */
export interface MeasuredCopy {
  /** Read-only; no writer is left. */
  readonly copy: OwnedFd;
  readonly digest: Digest;
}

/**
 * Copies `bytes` bytes of `fd` into an unlinked file below `directory`, hashing what it writes: the digest holds for
 * the copy whatever becomes of the original. The file vanishes with its last descriptor and mount.
 */
export function copyMeasured(fd: number, bytes: number, directory: string): MeasuredCopy {
  using copy = openTmpfile(directory);
  const hasher = new VerityHasher();
  for (const chunk of chunks(fd, bytes)) {
    writeAll(copy.number, chunk);
    hasher.update(chunk);
  }
  // Opened anew, so that no descriptor that could write stays.
  return { copy: reopen(copy.number), digest: hasher.digest() };
}

/** All `bytes` bytes of `fd` in memory. */
export function readWhole(fd: number, bytes: number): Uint8Array {
  const whole = Buffer.allocUnsafeSlow(bytes);
  let offset = 0;
  for (const chunk of chunks(fd, bytes)) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}
