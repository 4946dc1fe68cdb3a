import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import { StoreError } from './objects.ts';
import { errorCode } from './unfinished-file.ts';

/** What a process that ends while it is looked at says: no such file, no such process, or none any more (a zombie). */
const gone = new Set(['ENOENT', 'ESRCH', 'EINVAL']);

/**
 * The digests of images that are mounted anywhere: the source that mountinfo names (proc_pid_mountinfo(5)), in every
 * mount namespace that a process is in, and from every root folder there, for a process sees no mount outside its own.
 * `proc` is where proc is mounted. Throws StoreError where some process may not be looked at.
 */
export function mountedImages(proc = '/proc'): ReadonlySet<Digest> {
  const views = new Set<string>();
  const found = new Set<Digest>();
  for (const name of readdirSync(proc)) {
    if (!/^[0-9]+$/.test(name)) continue;
    const process = join(proc, name);
    try {
      const view = viewOf(process);
      if (view !== undefined && views.has(view)) continue;
      for (const digest of imagesIn(readFileSync(join(process, 'mountinfo'), 'utf8'))) found.add(digest);
      // Only now: where this process has just ended, the next one in the same namespace is asked.
      if (view !== undefined) views.add(view);
    } catch (error) {
      const code = errorCode(error) ?? '';
      if (gone.has(code)) continue;
      if (code !== 'EACCES' && code !== 'EPERM') throw error;
      throw new StoreError(
        process,
        'its mounts cannot be seen, and may need objects; only root sees all mounts',
      );
    }
  }
  return found;
}

/** What tells which mounts a process sees; undefined where that may not be asked of one with more privileges. */
function viewOf(process: string): string | undefined {
  try {
    return `${readlinkSync(join(process, 'ns/mnt'))} ${readlinkSync(join(process, 'root'))}`;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
}

/** The digests among the sources of a mountinfo's lines: the second field after the one that is just "-". */
function imagesIn(mountinfo: string): Digest[] {
  return mountinfo.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const digest = separator < 0 ? undefined : parseDigest(fields[separator + 2] ?? '');
    return digest === undefined ? [] : [digest];
  });
}
