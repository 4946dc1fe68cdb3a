import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import { VerityHasher } from '../verity/verity.ts';
import { CommandError } from './command-error.ts';

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  EISDIR: 'it is a directory',
  EEXIST: 'it exists already',
  ELOOP: 'too many symbolic links',
  ENOSPC: 'no space left',
  EROFS: 'the filesystem is read-only',
};

/** Why a call of node:fs failed, in words where there are some, else by its code; undefined for any other error. */
export function fileErrorReason(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return Object.hasOwn(reasons, error.code) ? reasons[error.code] : error.code;
}

/** What `work` answers; throws CommandError `PATH: reason` where a call of node:fs fails in it. */
export function withPath<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    const reason = fileErrorReason(error);
    if (reason === undefined) throw error;
    throw new CommandError(`${path}: ${reason}`);
  }
}

/** The bytes of the file at `path`, which may be no longer than `bytesMax`. Throws CommandError. */
export function readInputFile(path: string, bytesMax: number): Uint8Array {
  const bytes = withPath(path, () => readFileSync(path));
  if (bytes.length > bytesMax) throw new CommandError(`${path}: longer than ${bytesMax} bytes`);
  return bytes;
}

const chunkBytes = 1024 * 1024;

/** The fs-verity digest of the file at `path`, of any size. Throws CommandError. */
export function measureFile(path: string): Digest {
  return withPath(path, () => {
    const fd = openSync(path, 'r');
    try {
      const hasher = new VerityHasher();
      const chunk = Buffer.allocUnsafe(chunkBytes);
      for (;;) {
        const count = readSync(fd, chunk, 0, chunk.length, null);
        if (count === 0) return hasher.digest();
        hasher.update(chunk.subarray(0, count));
      }
    } finally {
      closeSync(fd);
    }
  });
}
