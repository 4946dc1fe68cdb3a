import type { FileSystem } from '../trust/file-system.ts';
import type { KeyId } from '../trust/public-key.ts';
import type { Statement } from '../trust/statement.ts';
import { matchesPattern } from './pattern.ts';
import type { Policy, PolicyKey, Rule } from './policy.ts';
import type { Question, RefusalReason } from './question.ts';

/** Signatures that are looked at together. */
export interface Candidate {
  /** What its signers state; undefined where only signatures that state nothing but the digest are looked at. */
  readonly statement: Statement | undefined;
  /** Known keys that signed the statement. */
  readonly signers: readonly KeyId[];
  /** Known keys that signed the bare digest; none unless the rule takes their format. They vouch for no name. */
  readonly digestSigners: readonly KeyId[];
  readonly unknownKeyIds: readonly string[];
}

/** One rule, asked one question with one of the image's statements in hand. */
export interface Case {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly question: Question;
  /** What is looked at; undefined where the rule wants no signature, or the image has none that the rule takes. */
  readonly candidate: Candidate | undefined;
  /** As asked for, else as stated, else composefs. */
  readonly fileSystem: FileSystem;
}

/** Whether a check holds, and why in words. */
export type Verdict =
  | { readonly holds: true; readonly detail: string }
  | { readonly holds: false; readonly detail: string; readonly reason: RefusalReason | 'denied' };

/** The check holds. */
export function held(detail: string): Verdict {
  return { holds: true, detail };
}

/** The check fails with an error of its own. */
export function failed(detail: string, reason: RefusalReason): Verdict {
  return { holds: false, detail, reason };
}

/** The check fails, and the error is DeniedByPolicy with the whole message. */
export function denied(detail: string): Verdict {
  return { holds: false, detail, reason: 'denied' };
}

/** A sentence with the rule that it comes from. */
export function inRule(rule: Rule, detail: string): string {
  return `rule "${rule.name}": ${detail}`;
}

/** The keys of the rule's signed-by whose signatures count, in the policy's order. Their validity is another question. */
export function countedKeys({ policy, rule, candidate }: Case): readonly PolicyKey[] {
  if (candidate === undefined) return [];
  return (rule.signedBy ?? [])
    .map((id) => policy.keys.get(id))
    .filter((key) => key !== undefined)
    .filter((key) => hasSigned(key, candidate) && whyNotCounted(policy, key, candidate) === undefined);
}

/** Of the keys that count, those that are valid now. */
export function validKeys(asked: Case): readonly PolicyKey[] {
  return countedKeys(asked).filter((key) => invalidNow(asked, key) === undefined);
}

/** The latest moment that it may be, by a clock that may be wrong: what is not valid then is surely not valid yet. */
export function latestNow({ policy, question }: Case): number {
  return question.now.getTime() + policy.clockSkew;
}

/** The earliest moment that it may be: what has expired by then surely has. */
export function earliestNow({ policy, question }: Case): number {
  return question.now.getTime() - policy.clockSkew;
}

/** The limit of the key's time that now is surely outside of, or undefined. Both ends belong to a key's time. */
export function invalidNow(
  asked: Case,
  key: PolicyKey,
): { readonly when: 'before' | 'after'; readonly at: Date } | undefined {
  if (key.notBefore !== undefined && latestNow(asked) < key.notBefore.getTime())
    return { when: 'before', at: key.notBefore };
  if (key.notAfter !== undefined && earliestNow(asked) > key.notAfter.getTime())
    return { when: 'after', at: key.notAfter };
  return undefined;
}

/** How many different keys these are, whatever their IDs. */
export function distinctKeys(keys: readonly PolicyKey[]): number {
  return new Set(keys.map(({ key }) => key.id)).size;
}

/** Whether the key made one of the signatures, in whatever format. */
export function hasSigned({ key }: PolicyKey, { signers, digestSigners }: Candidate): boolean {
  return signers.includes(key.id) || digestSigners.includes(key.id);
}

/** Why a sound signature of a key does not count for what is looked at, or undefined where it does. */
export function whyNotCounted(policy: Policy, key: PolicyKey, candidate: Candidate): string | undefined {
  if (policy.revokedKeys.has(key.key.id)) return 'revoked';
  // A key that speaks for some names only does not speak where nothing is named.
  if (key.names.length === 0) return undefined;
  const name = candidate.signers.includes(key.key.id) ? candidate.statement?.name : undefined;
  if (name === undefined) return 'may speak for some names only, and its signature states none';
  const mayName = key.names.every((list) => list.some((pattern) => matchesPattern(pattern, name)));
  return mayName ? undefined : `may not speak for "${name}"`;
}
