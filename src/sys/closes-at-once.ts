import { fstatSync, readlinkSync } from 'node:fs';
import * as ffi from './ffi.ts';
import { createMemfd } from './file.ts';
import { descriptorPath } from './path.ts';

const F_GET_SEALS = 1034;

/** The device of the kernel's own tmpfs, where memfds are and nothing can be mounted. Told with the first question. */
let memfdDevice: number | undefined;

/**
 * Whether close(2) of `fd` waits for nobody: it is a memfd or a user namespace. False where that is not certain; asking waits for
 * nobody either: no filesystem but the kernel's own is asked, and no server behind one.
 */
export function closesAtOnce(fd: number): boolean {
  // Of files that are no memory's this is EINVAL by the kernel alone (memfd_create(2)); it knows user namespaces by name, and
  // names of files begin with a slash.
  if (ffi.fcntl(fd, F_GET_SEALS, 0) < 0) return readlinkSync(descriptorPath(fd)).startsWith('user:[');
  // A tmpfs that somebody mounted may take others with it as it goes.
  return fstatSync(fd).dev === (memfdDevice ??= deviceOfMemfds());
}

function deviceOfMemfds(): number {
  using memfd = createMemfd('which device');
  return fstatSync(memfd.number).dev;
}
