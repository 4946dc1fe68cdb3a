import { readdirSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';

import { objectDigest } from './objects.ts';
import { lockStore } from './store-lock.ts';
import { storeFiles } from './store-files.ts';
import { errorCode, isUnfinished } from './unfinished-file.ts';

/** How old a file without its final name must be before its writer is taken for dead, in milliseconds: one day. */
const abandonedAgeMilliseconds = 24 * 60 * 60 * 1000;

/** What `collectGarbage` removed, or would remove: relative paths, and their size in bytes in all. */
export interface Garbage {
  readonly removed: readonly string[];
  readonly bytes: number;
  readonly kept: number;
}

/**
 * Removes the objects at `storePath` that are not among the relative paths `needed`, and what died writers left there
 * unfinished by the time `now` (milliseconds since 1970). Files that are no objects stay. With `dryRun` nothing is
 * removed. Throws StoreError while somebody adds to the store: the objects are needed before an image is there to say so.
 */
export function collectGarbage(
  storePath: string,
  needed: ReadonlySet<string>,
  options: { readonly dryRun: boolean; readonly now: number },
): Garbage {
  const lock = lockStore(storePath, 'collect');
  try {
    return removeUnneeded(storePath, needed, options);
  } finally {
    lock.close();
  }
}

function removeUnneeded(
  storePath: string,
  needed: ReadonlySet<string>,
  options: { readonly dryRun: boolean; readonly now: number },
): Garbage {
  const removed: string[] = [];
  let [bytes, kept] = [0, 0];
  const remove = (relative: string): void => {
    const path = join(storePath, relative);
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) return;
    if (isUnfinished(relative) && options.now - status.mtimeMs < abandonedAgeMilliseconds) return;
    if (!options.dryRun) unlinkWherePresent(path);
    removed.push(relative);
    bytes += status.size;
  };
  for (const relative of storeFiles(storePath)) {
    if (objectDigest(relative) === undefined) continue;
    if (needed.has(relative)) kept++;
    else remove(relative);
  }
  readdirSync(storePath).filter(isUnfinished).forEach(remove);
  return { removed, bytes, kept };
}

function unlinkWherePresent(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}
