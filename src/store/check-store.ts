import { closeSync, fstatSync } from 'node:fs';
import { join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { foreignVerity, measureVerity } from '../sys/verity.ts';
import { measureContent } from './content.ts';
import { objectDigest, openRegular, StoreError } from './objects.ts';
import { Slots } from './slots.ts';
import { storeFiles } from './store-files.ts';
import { errorCode } from './unfinished-file.ts';

const filesAtOnceMax = 8;

/** Something in a store that should not be as it is; `path` is relative to the store. */
export interface StoreProblem {
  readonly path: string;
  readonly problem: string;
}

/** What is in a store: how many sound objects, their size in all, and what is wrong. */
export interface StoreReport {
  readonly objects: number;
  readonly bytes: number;
  /** Those of the objects that fs-verity makes immutable. */
  readonly verityObjects: number;
  readonly problems: readonly StoreProblem[];
}

/**
 * Reads every object of the store at `path` and compares its digest with its name. Problems are sorted by path. Throws
 * what reading the store's directories throws; what one object throws is a problem of that object.
 */
export async function checkStore(
  path: string,
  onProgress?: (done: { objects: number; bytes: number }) => void,
): Promise<StoreReport> {
  const slots = new Slots(filesAtOnceMax);
  const problems: StoreProblem[] = [];
  let [objects, bytes, verityObjects] = [0, 0, 0];
  for (const relative of storeFiles(path)) {
    const expected = objectDigest(relative);
    if (expected === undefined) {
      problems.push({ path: relative, problem: 'not an object: its name is no digest' });
      continue;
    }
    await slots.free();
    slots.begin(async () => {
      const found = await checkObject(join(path, relative), expected);
      if (typeof found === 'string') {
        problems.push({ path: relative, problem: found });
        return;
      }
      objects++;
      bytes += found.bytes;
      if (found.verity) verityObjects++;
      onProgress?.({ objects, bytes });
    });
  }
  await slots.finish();
  problems.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { objects, bytes, verityObjects, problems };
}

/**
 * The size of a sound object and whether it has fs-verity, or what is wrong with it. Its contents are hashed, also
 * where fs-verity would vouch for them.
 */
export async function checkObject(
  path: string,
  expected: Digest,
): Promise<string | { bytes: number; verity: boolean }> {
  let fd: number;
  try {
    fd = openRegular(path);
  } catch (error) {
    if (error instanceof StoreError) return error.reason;
    return `it cannot be read (${errorCode(error) ?? String(error)})`;
  }
  try {
    const { digest, bytes } = await measureContent(fd, fstatSync(fd).size);
    if (digest !== expected) return `damaged: its contents have the digest ${digest}`;
    const measured = measureVerity(fd);
    const foreign = measured === undefined ? undefined : foreignVerity(fd, measured);
    if (foreign !== undefined) return `its fs-verity uses ${foreign}: no mount with verity will take it`;
    return { bytes, verity: measured !== undefined };
  } catch (error) {
    return `it cannot be read (${errorCode(error) ?? String(error)})`;
  } finally {
    closeSync(fd);
  }
}
