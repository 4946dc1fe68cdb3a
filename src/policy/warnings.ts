import { keyringWarnings, keyWarnings, warnOfSigners } from './key-warnings.ts';
import type { Policy, Rule } from './policy.ts';
import { isScanned } from '../trust/file-system.ts';
import { shadows } from './shadows.ts';

/**
 * What an administrator should know of a policy that loads: keys and rules that can let nothing in, or less or more than
 * they seem to. One sentence each, those on rules with file and line.
 */
export function policyWarnings(policy: Policy, now: Date): readonly string[] {
  if (policy.rules.length === 0) return ['there is no rule, so nothing can be mounted'];
  const rules = policy.rules.flatMap((rule, index) =>
    [
      warnOfStores(policy, rule),
      warnOfLocations(policy, rule),
      warnOfNames(rule),
      warnOfSigners(policy, rule, now),
      warnOfDigests(policy, rule),
      warnOfUnsigned(rule),
      warnOfAdding(rule),
      warnOfUnscanned(rule),
      warnOfShadow(rule, policy.rules.slice(0, index)),
    ]
      .filter((warning) => warning !== undefined)
      .map((warning) => `${rule.file}:${rule.line}: rule "${rule.name}" ${warning}`),
  );
  return [...keyWarnings(policy, now), ...keyringWarnings(policy, now), ...rules];
}

function warnOfDigests(policy: Policy, { digests }: Rule): string | undefined {
  if (digests === undefined || [...digests].some((digest) => !policy.revokedDigests.has(digest)))
    return undefined;
  return 'names only digests that are revoked, and lets nothing in';
}

/** Users other than root, who could mount whatever they made themselves. */
function warnOfUnsigned({ unsigned, users }: Rule): string | undefined {
  if (!unsigned || users?.every((match) => match.kind === 'ids' && match.last === 0) === true)
    return undefined;
  return (
    "lets others than root mount images that nobody vouched for, and put any bytes before the kernel's parsers; " +
    'locations would take what the administrator installed'
  );
}

/** What is added where no image of the rule looks, and where what is added may be anything. */
function warnOfAdding({ addObjects, stores, unsigned, fileSystems }: Rule): string | undefined {
  if (addObjects.length === 0) return undefined;
  if (unsigned)
    return 'has add-objects and lets unsigned images in: whoever may ask for them can add any file, up to the limits';
  if (!fileSystems.includes('composefs'))
    return 'has add-objects and takes no composefs images: no others have files in stores';
  const unused = addObjects.filter((name) => !stores.includes(name));
  if (unused.length === 0) return undefined;
  return `lets files be added to "${unused.join('", "')}", where none of its images may look for them (stores)`;
}

/** What is listed and never let in, or let in and not listed. */
function warnOfUnscanned({ unscanned, fileSystems }: Rule): string | undefined {
  const listed = fileSystems.filter((fileSystem) => !isScanned(fileSystem));
  if (unscanned && listed.length === 0)
    return `has unscanned and takes only ${fileSystems.join(', ')}, which are always scanned`;
  if (unscanned || listed.length === 0) return undefined;
  return `takes ${listed.join(', ')} and lets none of them in: nobody scans them, and it does not say that nodev is enough (unscanned)`;
}

function warnOfShadow(rule: Rule, before: readonly Rule[]): string | undefined {
  const first = before.find((earlier) => shadows(earlier, rule));
  if (first === undefined) return undefined;
  return `never decides: rule "${first.name}" (${first.file}:${first.line}) does wherever it would`;
}

function warnOfStores(policy: Policy, rule: Rule): string | undefined {
  if (rule.verity !== 'require' || !rule.fileSystems.includes('composefs')) return undefined;
  const trusted = rule.stores.filter((name) => policy.stores.get(name)?.verity === 'trusted');
  if (trusted.length === 0) return undefined;
  if (trusted.length === rule.stores.length) {
    return 'demands verity = "require" and names only trusted stores, which never meet it; "if-present" would use them';
  }
  return (
    `demands verity = "require" and names the trusted store "${trusted.join('", "')}": ` +
    'requests that do not name other stores are refused'
  );
}

function warnOfLocations(policy: Policy, rule: Rule): string | undefined {
  const outside = rule.locations?.filter(
    (location) => !policy.imageDirectories.some((path) => overlap(path, location)),
  );
  if (outside === undefined || outside.length === 0) return undefined;
  return `names ${outside.join(', ')}, which is no image directory and lies below none`;
}

/** Whether either directory is the other, or above it. */
function overlap(a: string, b: string): boolean {
  return a === b || a.startsWith(b === '/' ? b : `${b}/`) || b.startsWith(a === '/' ? a : `${a}/`);
}

function warnOfNames(rule: Rule): string | undefined {
  if (rule.signedBy !== undefined) return undefined;
  if (rule.images !== undefined)
    return 'has images and no signed-by: it trusts nobody for the name, and never holds';
  if (rule.rollbackProtection)
    return 'has rollback-protection and no signed-by: no version is trusted, all are refused';
  return undefined;
}
