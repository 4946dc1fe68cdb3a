import { formatTime } from '../trust/time.ts';
import type { Policy, PolicyKey, Rule } from './policy.ts';
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
    if (!used.has(key.id)) found.push(`${what} is used by no rule`);
    return found;
  });
}

/** Why the rule's threshold can never be met (again), or undefined while it can. */
export function warnOfSigners(policy: Policy, rule: Rule, now: Date): string | undefined {
  if (rule.signedBy === undefined) {
    return rule.formats.includes('dsse')
      ? undefined
      : 'has formats and no signed-by, and so asks for no signature';
  }
  const keys = rule.signedBy.map((id) => policy.keys.get(id)).filter((key) => key !== undefined);
  const idle = keys
    .map((key) => ({ key, why: whyIdle(policy, rule, key, now) }))
    .filter(({ why }) => why !== undefined);
  const left = distinctKeys(keys.filter((key) => !idle.some((each) => each.key === key)));
  if (left >= rule.threshold) return undefined;
  const reasons = idle.map(({ key, why }) => `"${key.id}" ${why ?? ''}`).join(', ');
  return `needs ${rule.threshold} of its keys and can never have them: ${reasons}`;
}

/** Why no signature of the key will count in the rule from now on. */
function whyIdle(policy: Policy, { formats }: Rule, key: PolicyKey, now: Date): string | undefined {
  if (policy.revokedKeys.has(key.key.id)) return 'is revoked';
  if (key.notAfter !== undefined && key.notAfter < now) return 'has expired';
  if (key.key.algorithm === 'rsa' && !formats.includes('ssh'))
    return 'is RSA, which signs in the format ssh only';
  if (key.names.length > 0 && !formats.includes('dsse'))
    return 'may speak for some names only, and ssh states none';
  return undefined;
}
