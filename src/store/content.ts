import { copyFile, constants, read, readSync, write } from 'node:fs';
import { promisify } from 'node:util';

import type { Digest } from '../base/digest.ts';
import { verityDigest, VerityHasher } from '../verity/verity.ts';

const readAt = promisify(read);
const writeAt = promisify(write);
const copy = promisify(copyFile);

/** How much of a file is in memory at a time: large enough that calls cost nothing beside hashing. */
export const blockBytesMax: number = 1024 * 1024;

/** What went through: the fs-verity digest of it, and how many bytes. */
export interface Measured {
  readonly digest: Digest;
  readonly bytes: number;
}

/**
 * Reads the file `source` from its start to its end, hashing it. `sizeHint` in bytes only bounds the buffer. With
 * `onBlock`, each block is handed on; it must be done with it when its promise is settled.
 */
async function readThrough(
  source: number,
  sizeHint: number,
  onBlock?: (block: Uint8Array, position: number) => Promise<void>,
): Promise<Measured> {
  const hasher = new VerityHasher();
  const buffer = Buffer.allocUnsafe(Math.min(blockBytesMax, Math.max(sizeHint, 0) + 1));
  let position = 0;
  for (;;) {
    const { bytesRead } = await readAt(source, buffer, 0, buffer.length, position);
    if (bytesRead === 0) return { digest: hasher.digest(), bytes: position };
    const block = buffer.subarray(0, bytesRead);
    const handedOn = onBlock?.(block, position);
    hasher.update(block);
    await handedOn;
    position += bytesRead;
  }
}

/**
 * The fs-verity digest of an open file's contents, and their size. `sizeHint` is the expected size in bytes. With
 * `onProgress`, says after each block how many bytes are done.
 */
export function measureContent(
  source: number,
  sizeHint: number,
  onProgress?: (bytes: number) => void,
): Promise<Measured> {
  if (onProgress === undefined) return readThrough(source, sizeHint);
  return readThrough(source, sizeHint, (block, position) => {
    onProgress(position + block.length);
    return Promise.resolve();
  });
}

let room: Buffer | undefined;

/**
 * The whole contents of a file of `size` bytes, at most `blockBytesMax`; undefined where it has more, or fewer, by now.
 * They stand in a buffer that the next call uses again. Not asynchronous: for files of this size that costs more than
 * reading and hashing them.
 */
export function readContent(source: number, size: number): Uint8Array | undefined {
  room ??= Buffer.allocUnsafe(blockBytesMax + 1);
  for (let used = 0; ;) {
    const bytesRead = readSync(source, room, used, size + 1 - used, used);
    used += bytesRead;
    if (used > size || (bytesRead === 0 && used < size)) return undefined;
    // One byte more was asked for: this is the end.
    if (used === size) return room.subarray(0, size);
  }
}

/** As measureContent, but not asynchronous for a file that is read at once. */
export async function measureFile(source: number, size: number): Promise<Measured> {
  const whole = size <= blockBytesMax ? readContent(source, size) : undefined;
  return whole === undefined ? measureContent(source, size) : { digest: verityDigest(whole), bytes: size };
}

/** Writes `bytes` to the file `target` from `position` on. */
export async function writeContent(target: number, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await writeAt(
      target,
      bytes,
      written,
      bytes.length - written,
      position + written,
    );
    written += bytesWritten;
  }
}

/** Copies the contents of the file `source` into the empty file `target`, and measures what was copied; else as measureContent. */
export function copyContent(
  source: number,
  target: number,
  sizeHint: number,
  onProgress?: (bytes: number) => void,
): Promise<Measured> {
  return readThrough(source, sizeHint, async (block, position) => {
    await writeContent(target, block, position);
    onProgress?.(position + block.length);
  });
}

/**
 * Lets the empty file `target` share the blocks of `source` (FICLONE), which costs neither time nor space. False where
 * the filesystem cannot, or the two are on different ones. The mode of `target` may be the source's afterwards.
 */
export async function cloneContent(source: number, target: number): Promise<boolean> {
  try {
    await copy(`/proc/self/fd/${source}`, `/proc/self/fd/${target}`, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
}
