import { fstatSync } from 'node:fs';
import * as ffi from './ffi.ts';
import { createMemfd } from './file.ts';

const F_GET_SEALS = 1034;

/** The device of the kernel's own tmpfs, where memfds are and nothing can be mounted. Told with the first question. */
let memfdDevice: number | undefined;

/**
 * Whether close(2) of `fd` waits for nobody, since it is a memfd. False where that is not certain; asking waits for nobody either: no
 * server behind a filesystem is asked.
 */
export function closesAtOnce(fd: number): boolean {
  // Of files that are not in memory this is an error by the kernel alone (memfd_create(2)).
  if (ffi.fcntl(fd, F_GET_SEALS, 0) < 0) return false;
  // A tmpfs that somebody mounted may take others with it as it goes.
  return fstatSync(fd).dev === (memfdDevice ??= deviceOfMemfds());
}

function deviceOfMemfds(): number {
  using memfd = createMemfd('which device');
  return fstatSync(memfd.number).dev;
}
