import { lstatSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Why others than root could change what is at the absolute `path`, or undefined where only root can: it and every
 * folder above it, links resolved, belong to root, and nobody else may write them, save for folders above that are
 * sticky, as /tmp. Throws the errors of lstat(2), ENOENT among them.
 */
export function rootOwnedFault(path: string): string | undefined {
  const chain: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    chain.unshift(at);
    if (at === dirname(at)) break;
  }
  for (const part of chain) {
    const found = lstatSync(part);
    if (found.isSymbolicLink()) {
      if (found.uid !== 0) return `${part} belongs to user ${found.uid}`;
      // What the link leads to has folders of its own above it. What follows below it is looked at from there.
      return rootOwnedFault(realpathSync(path));
    }
    const fault = modeFault(part, found, part !== path);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** Why others than root could change a file or folder with this owner and mode. `above`: a folder on the way to it. */
export function modeFault(
  path: string,
  found: { readonly uid: number | bigint; readonly mode: number | bigint },
  above: boolean,
): string | undefined {
  if (Number(found.uid) !== 0) return `${path} belongs to user ${String(found.uid)}`;
  const mode = Number(found.mode);
  if ((mode & 0o022) === 0) return undefined;
  if (above && (mode & 0o1000) !== 0) return undefined;
  return `${path} can be written by others than root (mode ${(mode & 0o7777).toString(8)})`;
}
