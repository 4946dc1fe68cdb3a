import type { CertificatePath } from '../trust/certificate-path.ts';
import type { FileSystem } from '../trust/file-system.ts';
import type { KeyringSignature } from '../trust/keyring-signature.ts';
import type { KeyId } from '../trust/public-key.ts';
import type { Statement } from '../trust/statement.ts';
import type { VerifiedStatement } from '../trust/verify.ts';
import { matchesPattern } from './pattern.ts';
import type { Policy, PolicyKey, PolicyKeyring, Rule } from './policy.ts';
import type { Question, RefusalReason } from './question.ts';

/** Signatures that are looked at together. */
export interface Candidate {
  /** What its signers state; undefined where only signatures that state nothing but the digest are looked at. */
  readonly statement: Statement | undefined;
  /** Known keys that signed the statement. */
  readonly signers: readonly KeyId[];
  /** Known keys that signed the bare digest; none unless the rule takes their format. They vouch for no name. */
  readonly digestSigners: readonly KeyId[];
  /** The same by certificates: how those of signers lead to the policy's. */
  readonly paths: readonly CertificatePath[];
  /** Whether some of these are over a root hash, and vouch for nothing in the image but what dm-verity checks by it. */
  readonly byRootHash: boolean;
  /** The same by the kernel's keyrings. */
  readonly keyrings: readonly KeyringSignature[];
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

/** Of the keys that count, those that are valid now, and their certificates too where they count by these. */
export function validKeys(asked: Case): readonly PolicyKey[] {
  return countedKeys(asked).filter(
    (key) => invalidNow(asked, key) === undefined && speakers(asked, key, 'now').length > 0,
  );
}

/**
 * The keyrings of the rule's signed-by by which a signature counts: none towards a higher threshold than 1, since nobody can tell their keys from
 * others that signed.
 */
export function countedKeyrings({ policy, rule, candidate }: Case): readonly PolicyKeyring[] {
  if (candidate === undefined || rule.threshold !== 1) return [];
  return (rule.signedBy ?? [])
    .map((id) => policy.keyrings.get(id))
    .filter((keyring) => keyring !== undefined)
    .filter(({ keyring }) =>
      candidate.keyrings.some(
        (signature) => signature.keyring === keyring && whyKeyringNotCounted(policy, signature) === undefined,
      ),
    );
}

/** Of the keyrings that count, those whose time it is. */
export function validKeyrings(asked: Case): readonly PolicyKeyring[] {
  return countedKeyrings(asked).filter((keyring) => invalidNow(asked, keyring) === undefined);
}

/** Why a sound signature by a key of a keyring does not count, or undefined where it does. */
export function whyKeyringNotCounted({ revokedKeys }: Policy, { key }: KeyringSignature): string | undefined {
  if (revokedKeys.size === 0) return undefined;
  if (key === undefined) return 'may be a key that is revoked, as it is none of this policy to compare with';
  return revokedKeys.has(key) ? 'revoked' : undefined;
}

/** What a question about time takes. */
type Asked = Pick<Case, 'policy' | 'question'>;

/** The latest moment that it may be, by a clock that may be wrong: what is not valid then is surely not valid yet. */
function latestNow({ policy, question }: Asked): number {
  return question.now.getTime() + policy.clockSkew;
}

/** The earliest moment that it may be: what has expired by then surely has. */
function earliestNow({ policy, question }: Asked): number {
  return question.now.getTime() - policy.clockSkew;
}

/** The limit of that time that now is surely outside of, or undefined. Both ends belong to it. */
export function invalidNow(
  asked: Asked,
  { notBefore, notAfter }: Pick<PolicyKey, 'notBefore' | 'notAfter'>,
): { readonly when: 'before' | 'after'; readonly at: Date } | undefined {
  if (notBefore !== undefined && latestNow(asked) < notBefore.getTime())
    return { when: 'before', at: notBefore };
  if (notAfter !== undefined && earliestNow(asked) > notAfter.getTime())
    return { when: 'after', at: notAfter };
  return undefined;
}

/** The same of a statement, to whose time the moment at which it expires does not belong. */
export function invalidStatementNow(
  asked: Asked,
  { notBefore, expires }: Pick<Statement, 'notBefore' | 'expires'>,
): ReturnType<typeof invalidNow> {
  if (expires !== undefined && earliestNow(asked) >= expires.getTime()) return { when: 'after', at: expires };
  return invalidNow(asked, { notBefore, notAfter: undefined });
}

/** Whether a key of the policy vouches for a statement now: one that may, though no rule says that it trusts it. */
export function isVouchedFor(asked: Asked, { statement, signers }: VerifiedStatement): boolean {
  if (invalidStatementNow(asked, statement) !== undefined) return false;
  const candidate: Candidate = {
    statement,
    signers,
    digestSigners: [],
    paths: [],
    byRootHash: false,
    keyrings: [],
    unknownKeyIds: [],
  };
  return [...asked.policy.keys.values()].some(
    (key) =>
      signers.includes(key.key.id) &&
      whyNotCounted(asked.policy, key, candidate) === undefined &&
      invalidNow(asked, key) === undefined,
  );
}

/** What to do next where nobody says what filesystem an image holds. */
export function howToAsk(fileSystem: FileSystem | 'TYPE'): string {
  return `ask for it (mount -o type=${fileSystem}, verify --file-system ${fileSystem})`;
}

/** How many different keys these are, whatever their IDs. */
export function distinctKeys(keys: readonly PolicyKey[]): number {
  return new Set(keys.map(({ key }) => key.id)).size;
}

/**
 * How many of the keys have a signature each that counts for no other of them: the signature of one whose certificate is trusted by itself
 * and by its authority counts for either, and not for both. With `when`, what is not valid now is left out.
 */
export function distinctSigners(asked: Case, keys: readonly PolicyKey[], when?: 'now'): number {
  const byKey = new Map<string, Set<KeyId>>();
  for (const key of keys) {
    const found = byKey.get(key.key.id) ?? new Set();
    for (const speaker of speakers(asked, key, when)) found.add(speaker);
    byKey.set(key.key.id, found);
  }
  return countPairs([...byKey.values()]);
}

/** The most sets that can be given one of their members each, none given twice: augmenting paths (Kuhn 1955). */
function countPairs(sets: readonly ReadonlySet<KeyId>[]): number {
  const holder = new Map<KeyId, number>();
  const place = (set: number, tried: Set<KeyId>): boolean => {
    for (const member of sets[set] ?? []) {
      if (tried.has(member)) continue;
      tried.add(member);
      const other = holder.get(member);
      if (other === undefined || place(other, tried)) {
        holder.set(member, set);
        return true;
      }
    }
    return false;
  };
  return sets.filter((_, set) => place(set, new Set())).length;
}

/** The keys that signed and whose word is the key's own: itself, and those that its certificates vouch for. */
function speakers(asked: Case, key: PolicyKey, when?: 'now'): readonly KeyId[] {
  const { policy, candidate } = asked;
  if (candidate === undefined) return [];
  const own =
    candidate.signers.includes(key.key.id) || candidate.digestSigners.includes(key.key.id)
      ? [key.key.id]
      : [];
  const certified = soundPaths(policy, key, candidate)
    .filter((path) => when === undefined || invalidNow(asked, path) === undefined)
    .flatMap(({ keys }) => keys.slice(0, 1));
  return [...own, ...certified];
}

/** The certificate paths by which the key counts: none over a revoked key. */
export function soundPaths(policy: Policy, key: PolicyKey, { paths }: Candidate): readonly CertificatePath[] {
  return paths.filter((path) => leadsTo(path, key) && !path.keys.some((id) => policy.revokedKeys.has(id)));
}

/** Whether the path ends at the key, which speaks for more than itself only where the policy makes it an authority. */
function leadsTo({ anchor, keys }: CertificatePath, { key, certificates, authority }: PolicyKey): boolean {
  return anchor === key.id && certificates.length > 0 && (authority || keys.length === 1);
}

/** Whether the key made one of the signatures, in whatever format, or vouches for who did. */
export function hasSigned(key: PolicyKey, { signers, digestSigners, paths }: Candidate): boolean {
  const { id } = key.key;
  return signers.includes(id) || digestSigners.includes(id) || paths.some((path) => leadsTo(path, key));
}

/** Why a sound signature of a key does not count for what is looked at, or undefined where it does. */
export function whyNotCounted(policy: Policy, key: PolicyKey, candidate: Candidate): string | undefined {
  if (policy.revokedKeys.has(key.key.id)) return 'revoked';
  const signedItself = [...candidate.signers, ...candidate.digestSigners].includes(key.key.id);
  if (!signedItself && soundPaths(policy, key, candidate).length === 0)
    return 'vouches only for a certificate whose key is revoked';
  // A key that speaks for some names only does not speak where nothing is named.
  if (key.names.length === 0) return undefined;
  const name = candidate.signers.includes(key.key.id) ? candidate.statement?.name : undefined;
  if (name === undefined) return 'may speak for some names only, and its signature states none';
  const mayName = key.names.every((list) => list.some((pattern) => matchesPattern(pattern, name)));
  return mayName ? undefined : `may not speak for "${name}"`;
}
