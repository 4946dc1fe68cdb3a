import { coversPattern, parsePattern } from './pattern.ts';
import type { Rule, UserMatch } from './policy.ts';

/**
 * Whether the conditions of `earlier` hold wherever those of `later` do, so that `later` never decides. Only what is certain is
 * found, each pattern of names by itself. (Only an image whose signers contradict each other about its
 * filesystem could still reach `later`.)
 */
export function shadows(earlier: Rule, later: Rule): boolean {
  return (
    (!earlier.unsigned || later.unsigned) &&
    coversUsers(earlier.users, later.users) &&
    covers(earlier.groups, later.groups) &&
    coversLocations(earlier.locations, later.locations) &&
    later.fileSystems.every((fileSystem) => earlier.fileSystems.includes(fileSystem)) &&
    coversImages(earlier.images, later.images) &&
    covers(earlier.digests && [...earlier.digests], later.digests && [...later.digests]) &&
    coversSigners(earlier, later)
  );
}

/** Of lists of which one entry has to fit; undefined takes everything. */
function covers<Entry>(earlier: readonly Entry[] | undefined, later: readonly Entry[] | undefined): boolean {
  if (earlier === undefined) return true;
  return later?.every((entry) => earlier.includes(entry)) === true;
}

const everyName = parsePattern('**');

/** A later rule without patterns takes every name. */
function coversImages(earlier: Rule['images'], later: Rule['images'] = [everyName]): boolean {
  return (
    earlier === undefined || later.every((narrow) => earlier.some((wide) => coversPattern(wide, narrow)))
  );
}

function coversUsers(
  earlier: readonly UserMatch[] | undefined,
  later: readonly UserMatch[] | undefined,
): boolean {
  if (earlier?.some(({ kind }) => kind === 'everybody') ?? true) return true;
  return (
    later?.every(
      (match) =>
        match.kind === 'ids' &&
        earlier?.some((wide) => wide.kind === 'ids' && wide.first <= match.first && match.last <= wide.last),
    ) === true
  );
}

function coversLocations(
  earlier: readonly string[] | undefined,
  later: readonly string[] | undefined,
): boolean {
  if (earlier === undefined) return true;
  const isBelow = (path: string, above: string): boolean =>
    path === above || path.startsWith(above === '/' ? above : `${above}/`);
  return later?.every((path) => earlier.some((above) => isBelow(path, above))) === true;
}

/** Whoever meets the later threshold meets the earlier one, in the same formats. */
function coversSigners(earlier: Rule, later: Rule): boolean {
  // Such a rule trusts nobody for the name and never holds.
  if (earlier.signedBy === undefined) return earlier.images === undefined;
  return (
    covers(earlier.signedBy, later.signedBy) &&
    earlier.threshold <= later.threshold &&
    later.formats.every((format) => earlier.formats.includes(format))
  );
}
