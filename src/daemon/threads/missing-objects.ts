import { accessSync } from 'node:fs';
import { digestFromBytes, type Digest } from '../../base/digest.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { openBeneath } from '../../sys/file.ts';
import { foreignVerity, measureVerity } from '../../sys/verity.ts';
import type { WantedObject } from './object-table.ts';
import type { MissingObjects } from './tasks.ts';

/** A store as an open directory, and whether each of its files must have fs-verity. */
export interface OpenStore {
  readonly fd: number;
  readonly verity: boolean;
}

/** FS_VERITY_HASH_ALG_SHA256, include/uapi/linux/fsverity.h. */
const sha256 = 1;

type Found = 'whole' | 'absent' | { readonly unfit: string };

/**
 * Which of `objects` the first store that has a file of that name does not serve: overlayfs takes an object from the topmost
 * layer that has it, and checks that one. Lists at most `listed`.
 */
export function missingObjects(
  stores: readonly OpenStore[],
  objects: Iterable<WantedObject>,
  listed: number,
): MissingObjects {
  const missing: string[] = [];
  let count = 0;
  let unfit: string | undefined;
  for (const object of objects) {
    const found = find(stores, object);
    if (found === 'whole') continue;
    if (found !== 'absent') unfit ??= found.unfit;
    count += 1;
    if (missing.length < listed) missing.push(object.path);
  }
  return { count, objects: missing, unfit };
}

function find(stores: readonly OpenStore[], object: WantedObject): Found {
  for (const store of stores) {
    const found = look(store, object);
    if (found !== 'absent') return found;
  }
  return 'absent';
}

function look(store: OpenStore, { path, digest }: WantedObject): Found {
  if (!store.verity) return exists(`/proc/self/fd/${store.fd}/${path}`) ? 'whole' : 'absent';
  try {
    using file = openBeneath(store.fd, path, { nonBlocking: true });
    return examine(file.number, digest);
  } catch (error) {
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'ENXIO')) return 'absent';
    throw error;
  }
}

/** Whether overlayfs will take the file, which it asks for its fs-verity digest as it opens it. */
function examine(file: number, digest: Digest | undefined): Found {
  const measured = measureVerity(file);
  if (measured === undefined) {
    return {
      unfit:
        'are there without fs-verity, which is required; a store with verity "trusted" and a rule with "if-present" do without',
    };
  }
  const same =
    measured.algorithm === sha256 && digest !== undefined && digestFromBytes(measured.digest) === digest;
  if (same) return 'whole';
  const foreign = foreignVerity(file, measured);
  if (foreign !== undefined) return { unfit: `have fs-verity with ${foreign}` };
  if (digest !== undefined) return { unfit: 'are other files than those that the image was made with' };
  return 'whole';
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
