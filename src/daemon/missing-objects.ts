import { accessSync } from 'node:fs';
import { isSyscallError } from '../sys/errno.ts';
import { openBeneath } from '../sys/file.ts';
import { measureVerity } from '../sys/verity.ts';
import type { MissingObjects } from './tasks.ts';

/** A store as an open directory, and whether each of its files must have fs-verity. */
export interface OpenStore {
  readonly fd: number;
  readonly verity: boolean;
}

type Found = 'whole' | 'without verity' | 'absent';

/**
 * Which of `objects` (paths such as "ab/cdef…") the first store that has a file of that name does not serve: overlayfs
 * takes an object from the topmost layer that has it. Lists at most `listed`.
 */
export function missingObjects(
  stores: readonly OpenStore[],
  objects: readonly string[],
  listed: number,
): MissingObjects {
  const missing: string[] = [];
  let count = 0;
  let withoutVerity = false;
  for (const object of objects) {
    const found = find(stores, object);
    if (found === 'whole') continue;
    if (found === 'without verity') withoutVerity = true;
    count += 1;
    if (missing.length < listed) missing.push(object);
  }
  return { count, objects: missing, withoutVerity };
}

function find(stores: readonly OpenStore[], object: string): Found {
  for (const store of stores) {
    const found = look(store, object);
    if (found !== 'absent') return found;
  }
  return 'absent';
}

function look(store: OpenStore, object: string): Found {
  if (!store.verity) return exists(`/proc/self/fd/${store.fd}/${object}`) ? 'whole' : 'absent';
  try {
    using file = openBeneath(store.fd, object, { nonBlocking: true });
    return measureVerity(file.number) === undefined ? 'without verity' : 'whole';
  } catch (error) {
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'ENXIO')) return 'absent';
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
