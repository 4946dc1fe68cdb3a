import { constants, openSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

import { OwnedFd } from '../sys/fd.ts';
import { lockFile } from '../sys/file.ts';
import { StoreError } from './objects.ts';

/** How often whoever is to collect looks again, in milliseconds. */
const lookAgainMilliseconds = 20;

/**
 * Keeps the store at `path` from being collected while objects are added to it, and the other way round: an object is
 * needed before the image is there to say so. Many may add at once; one collects. A lock on the folder itself (flock(2)),
 * which ends with the process and leaves nothing behind. Throws StoreError where the other kind of work is under way.
 */
export function lockStore(path: string, purpose: 'add' | 'collect'): OwnedFd {
  using folder = new OwnedFd(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
  if (lockFile(folder.number, purpose === 'add' ? 'shared' : 'exclusive')) return folder.moved();
  throw new StoreError(
    path,
    purpose === 'add'
      ? 'objects are being removed from the store; try again when that has ended'
      : 'objects are being added to the store, or removed from it; try again when that has ended',
  );
}

/**
 * As lockStore for whoever collects, who waits as long as `patienceMilliseconds`: the service, which adds a few objects at a
 * time for its callers, is done by then, whatever they send.
 */
export async function lockForCollecting(path: string, patienceMilliseconds: number): Promise<OwnedFd> {
  const until = performance.now() + patienceMilliseconds;
  for (;;) {
    try {
      return lockStore(path, 'collect');
    } catch (error) {
      if (!(error instanceof StoreError) || performance.now() >= until) throw error;
    }
    await setTimeout(lookAgainMilliseconds);
  }
}
