import { formatTime } from '../trust/time.ts';
import type { NamePattern } from './pattern.ts';
import { patternsMeet } from './pattern.ts';
import type { Policy, PolicyKey, PolicyKeyring, Rule, SignatureFormat } from './policy.ts';
import { countsByCertificates } from './policy.ts';
import { distinctKeys } from './verdict.ts';

/** What is surely wrong with a key: one sentence each. */
export function keyWarnings(policy: Policy, now: Date): readonly string[] {
  const used = new Set(policy.rules.flatMap(({ signedBy }) => signedBy ?? []));
  return [...policy.keys.values()].flatMap((key) => {
    const what = `key "${key.id}"`;
    const found: string[] = [];
    if (policy.revokedKeys.has(key.key.id))
      found.push(`${what} is revoked: its signatures count for nothing`);
    else if (key.notAfter !== undefined && key.notAfter < now) {
      found.push(`${what} expired at ${formatTime(key.notAfter)}`);
    }
    if (!used.has(key.id) && !isComparedWith(policy)) found.push(`${what} is used by no rule`);
    const ended = key.certificates.find(({ notAfter }) => notAfter < now);
    if (ended !== undefined)
      found.push(`${what} has a certificate that expired at ${formatTime(ended.notAfter)}`);
    if (key.authority && !policy.rules.some((rule) => takesCertificates(rule, key)))
      found.push(
        `${what} is an authority, and no rule that names it takes the format fsverity-pkcs7 or dmverity-pkcs7`,
      );
    return found;
  });
}

/** Whether keys serve even without a rule: those of keyrings count only where they are among them, while keys are revoked. */
function isComparedWith({ keyrings, revokedKeys }: Policy): boolean {
  return keyrings.size > 0 && revokedKeys.size > 0;
}

/** What is surely wrong with a keyring of the kernel's: one sentence each. */
export function keyringWarnings(
  { keyrings, keys, revokedKeys, rules }: Policy,
  now: Date,
): readonly string[] {
  return [...keyrings.values()].flatMap((keyring) => {
    const what = `keyring "${keyring.id}"`;
    const found: string[] = [];
    if (!rules.some(({ signedBy }) => signedBy?.includes(keyring.id) === true))
      found.push(`${what} is used by no rule`);
    if (keyring.notAfter === undefined)
      found.push(
        `${what} has no not-after: nobody knows the dates of the certificates in it, and what has expired counts on`,
      );
    else if (keyring.notAfter < now) found.push(`${what} expired at ${formatTime(keyring.notAfter)}`);
    if (revokedKeys.size > 0 && keys.size === 0)
      found.push(
        `${what} counts for nothing while keys are revoked: only those of its keys do that the policy has in [[keys]] as well`,
      );
    return found;
  });
}

/** Why the rule's threshold can never be met (again), of all that it takes or of some names, or undefined while it can. */
export function warnOfSigners(policy: Policy, rule: Rule, now: Date): string | undefined {
  if (rule.signedBy === undefined) {
    return rule.formats.includes('dsse')
      ? undefined
      : 'has formats and no signed-by, and so asks for no signature';
  }
  const keys = rule.signedBy.map((id) => policy.keys.get(id)).filter((key) => key !== undefined);
  const keyrings = rule.signedBy
    .map((id) => policy.keyrings.get(id))
    .filter((keyring) => keyring !== undefined)
    .map((keyring) => ({ keyring, why: whyKeyringIdle(rule, keyring, now) }));
  const idle = keys
    .map((key) => ({ key, why: whyIdle(policy, rule, key, now) }))
    .filter(({ why }) => why !== undefined);
  const left = distinctKeys(keys.filter((key) => !idle.some((each) => each.key === key)));
  const reasons = [
    ...idle.map(({ key, why }) => `"${key.id}" ${why ?? ''}`),
    ...keyrings.map(({ keyring, why }) => `"${keyring.id}" ${why ?? ''}`),
  ].join(', ');
  const byKeyring = keyrings.some(({ why }) => why === undefined);
  if (left < rule.threshold && !byKeyring)
    return `needs ${rule.threshold} of its keys and can never have them: ${reasons}`;
  const speaking = keys.filter((key) => !idle.some((each) => each.key === key));
  const mute = (rule.images ?? []).filter(
    (pattern) => distinctKeys(speaking.filter((key) => maySpeak(key, pattern))) < rule.threshold,
  );
  if (mute.length > 0)
    return `takes ${mute.map((pattern) => `"${pattern}"`).join(', ')}, for which fewer than ${rule.threshold} of its keys may speak (names)`;
  const silent = idle.filter(({ why }) => why === speaksForNone);
  if (silent.length === 0) return undefined;
  return `names ${silent.map(({ key }) => `"${key.id}"`).join(', ')} in signed-by: ${speaksForNone}`;
}

const speaksForNone = 'may speak for none of the names that the rule takes (names)';

/** Whether the key may speak for some name of the pattern, by each list of names that it has. */
function maySpeak({ names }: PolicyKey, pattern: NamePattern): boolean {
  return names.every((list) => list.some((each) => patternsMeet(each, pattern)));
}

function takesCertificates({ signedBy, formats }: Rule, key: PolicyKey): boolean {
  return signedBy?.includes(key.id) === true && formats.some(countsByCertificates);
}

/** Why no signature of the key will count in the rule from now on. */
function whyIdle(policy: Policy, { formats, images }: Rule, key: PolicyKey, now: Date): string | undefined {
  if (policy.revokedKeys.has(key.key.id)) return 'is revoked';
  if (key.notAfter !== undefined && key.notAfter < now) return 'has expired';
  if (key.names.length > 0 && !formats.includes('dsse'))
    return `may speak for some names only, and ${formats.join(' and ')} states none`;
  if (images?.some((pattern) => maySpeak(key, pattern)) === false) return speaksForNone;
  const reasons = formats.map((format) => whyUnfit(format, key, now));
  return reasons.includes(undefined) ? undefined : reasons.join(' and ');
}

/** The same of a keyring's keys. */
function whyKeyringIdle({ formats }: Rule, { notAfter }: PolicyKeyring, now: Date): string | undefined {
  if (notAfter !== undefined && notAfter < now) return 'has expired';
  return formats.includes('fsverity-pkcs7')
    ? undefined
    : 'is a keyring, whose signatures are of the format fsverity-pkcs7 alone';
}

/** Why the key's signatures of that format cannot count from now on. */
function whyUnfit(format: SignatureFormat, { key, certificates }: PolicyKey, now: Date): string | undefined {
  if (format === 'ssh') return undefined;
  if (format === 'dsse') return key.algorithm === 'rsa' ? 'is RSA, which signs no DSSE' : undefined;
  if (certificates.length === 0) return `is no certificate, which ${format} needs`;
  const open = certificates.some(({ notAfter }) => notAfter >= now);
  return open ? undefined : 'has a certificate that expired';
}
