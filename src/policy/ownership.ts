import type { Stats } from 'node:fs';
import { lstatSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Links followed on one path, as many as the kernel follows (path_resolution(7)). */
const linksMax = 40;

/** What is found on the way to a path. */
export interface PathCheck {
  /** The path with all links resolved, as far as it exists. */
  readonly real: string;
  readonly exists: boolean;
  /** What lets somebody other than root change what the path leads to: one sentence each. */
  readonly problems: readonly string[];
}

/**
 * Walks an absolute path as the kernel would and checks that only root decides what is found there: everything on the way,
 * the last component too, belongs to root and nobody else can write it. A folder that others can write passes only
 * when it is root's and sticky, as /tmp: others cannot replace root's entries in it. Throws for loops of links, and for
 * components that cannot be looked at.
 */
export function checkPath(path: string): PathCheck {
  const problems: string[] = [];
  let rest = path.split('/').filter((part) => part !== '');
  let real = '/';
  let links = 0;
  note(real, lstatSync(real), problems);
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === '.') continue;
    if (part === '..') {
      real = dirname(real);
      continue;
    }
    const next = join(real, part);
    const stats = lstatSync(next, { throwIfNoEntry: false });
    if (stats === undefined) return { real: join(next, ...rest), exists: false, problems };
    note(next, stats, problems);
    if (!stats.isSymbolicLink()) {
      real = next;
      continue;
    }
    if (++links > linksMax) throw new RangeError(`more than ${linksMax} links on the way to ${path}`);
    const target = readlinkSync(next);
    if (target.startsWith('/')) real = '/';
    rest = [...target.split('/').filter((step) => step !== ''), ...rest];
  }
  return { real, exists: true, problems };
}

/** Why somebody other than root could change a file, link or folder, or undefined. A link's own mode means nothing. */
export function ownershipProblem(path: string, stats: Stats): string | undefined {
  if (stats.uid !== 0) return `${path} belongs to user ${stats.uid}, not to root`;
  if (stats.isSymbolicLink() || (stats.mode & 0o022) === 0) return undefined;
  if (stats.isDirectory() && (stats.mode & 0o1000) !== 0) return undefined;
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
  return `${path} can be written by others than root (mode ${mode})`;
}

function note(path: string, stats: Stats, problems: string[]): void {
  const problem = stats.isCharacterDevice() ? undefined : ownershipProblem(path, stats);
  if (problem !== undefined && !problems.includes(problem)) problems.push(problem);
}
