import { readdirSync, statSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import type { HandedOutImages } from './handed-out.ts';
import type { ImageObjects } from './needed-objects.ts';
import { neededObjects } from './needed-objects.ts';
import { objectDigest } from './objects.ts';
import { lockForCollecting } from './store-lock.ts';
import { storeFiles } from './store-files.ts';
import { errorCode, isUnfinished } from './unfinished-file.ts';

/** How old a file without its final name must be before its writer is taken for dead, in milliseconds: one day. */
const abandonedAgeMilliseconds = 24 * 60 * 60 * 1000;

/** How long those are waited for who add a few objects. */
const patienceMilliseconds = 3000;

/** What `collectGarbage` removed, or would remove: relative paths, and their size in bytes in all. */
export interface Garbage {
  readonly removed: readonly string[];
  readonly bytes: number;
  readonly kept: number;
}

/** What says which objects are garbage, and what is done about it. */
export interface Collection {
  /** Images that are to stay. */
  readonly images: readonly ImageObjects[];
  readonly handedOut: HandedOutImages;
  /** The digests of what is mounted anywhere, now. */
  readonly mounted: () => ReadonlySet<Digest>;
  readonly unknownMounts: 'refuse' | 'ignore';
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Nothing is removed. */
  readonly dryRun: boolean;
  /** Unless given, 3000. */
  readonly patienceMilliseconds?: number;
  /** Called now and then, with how many objects were looked at and how many of them are garbage. */
  readonly onProgress?: (looked: number, garbage: number) => void;
}

/**
 * Removes the objects at `storePath` that nothing needs (neededObjects), and what died writers left there unfinished. Files
 * that are no objects stay. What is handed out meanwhile is kept, or its objects are gone before it is. Throws StoreError while
 * somebody adds to the store: the objects are needed before an image is there to say so. Throws UnknownMounts.
 */
export async function collectGarbage(storePath: string, collection: Collection): Promise<Garbage> {
  const patience = collection.patienceMilliseconds ?? patienceMilliseconds;
  const lock = await lockForCollecting(storePath, patience);
  try {
    const { images, handedOut, mounted, unknownMounts, now } = collection;
    // Records first would miss what is recorded and then mounted in between.
    const mountedNow = mounted();
    const records = handedOut.read();
    const needed = neededObjects({ images, handedOut: records, mounted: mountedNow, now, unknownMounts });
    return removeUnneeded(storePath, new Set(needed), collection);
  } finally {
    lock.close();
  }
}

function removeUnneeded(storePath: string, needed: Set<string>, collection: Collection): Garbage {
  const { handedOut, now, dryRun, onProgress } = collection;
  const removed: string[] = [];
  let [bytes, kept] = [0, 0];
  const remove = (relative: string): void => {
    const path = join(storePath, relative);
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) return;
    if (isUnfinished(relative) && now - status.mtimeMs < abandonedAgeMilliseconds) return;
    if (!dryRun) unlinkWherePresent(path);
    removed.push(relative);
    bytes += status.size;
  };
  for (const objects of byFolder(storeFiles(storePath))) {
    // Nothing is handed out between the look at the records and these removals: who hands out waits so long, and no longer.
    const held = handedOut.hold();
    try {
      for (const image of handedOut.readNewer()) for (const object of image.objects) needed.add(object);
      for (const relative of objects) {
        if (needed.has(relative)) kept++;
        else remove(relative);
      }
    } finally {
      held?.close();
    }
    onProgress?.(kept + removed.length, removed.length);
  }
  readdirSync(storePath).filter(isUnfinished).forEach(remove);
  return { removed, bytes, kept };
}

/** The objects among these paths, those of a folder at a time. */
function* byFolder(paths: Iterable<string>): Generator<readonly string[]> {
  let objects: string[] = [];
  for (const path of paths) {
    if (objectDigest(path) === undefined) continue;
    const [first] = objects;
    if (first !== undefined && dirname(first) !== dirname(path)) {
      yield objects;
      objects = [];
    }
    objects.push(path);
  }
  if (objects.length > 0) yield objects;
}

function unlinkWherePresent(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}
