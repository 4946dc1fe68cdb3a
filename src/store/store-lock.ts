import { constants, openSync } from 'node:fs';

import { OwnedFd } from '../sys/fd.ts';
import { lockFile } from '../sys/file.ts';
import { StoreError } from './objects.ts';

/**
 * Keeps the store at `path` from being collected while objects are added to it, and the other way round: an object is
 * needed before the image is there to say so. Many may add at once; one collects. A lock on the folder itself (flock(2)),
 * which ends with the process and leaves nothing behind. Throws StoreError where the other kind of work is under way.
 */
export function lockStore(path: string, purpose: 'add' | 'collect'): OwnedFd {
  using folder = new OwnedFd(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
  if (lockFile(folder.number, purpose === 'add' ? 'shared' : 'exclusive')) return new OwnedFd(folder.take());
  throw new StoreError(
    path,
    purpose === 'add'
      ? 'objects are being removed from the store; try again when that has ended'
      : 'objects are being added to the store, or removed from it; try again when that has ended',
  );
}
