import { createHash } from 'node:crypto';
import type { Digest } from '../../base/digest.ts';
import type { AskKeyring } from '../../base/keyring-question.ts';
import type { Policy } from '../../policy/policy.ts';
import { askPolicyKeyrings, verifyFiles, withKeyrings } from '../../policy/verify-files.ts';
import type { SignedRootHash } from '../../trust/root-hash-signature.ts';
import type { Verification } from '../../trust/verify.ts';

/**
 * What signatures prove, remembered: an Ed25519 verification takes 2 to 4 ms. What they prove depends on nothing but
 * their bytes, the image's digest and the policy's keys, so each policy object has a memory of its own, which goes
 * with it. Time, revocation and rules are asked anew each time (policy/decide.ts), and so are the kernel's keyrings, which change
 * without a word.
 */
export class EvidenceCache {
  readonly #entriesMax: number;
  readonly #askKeyring: AskKeyring;
  readonly #policies = new WeakMap<Policy, PolicyMemory>();

  constructor(entriesMax: number, askKeyring: AskKeyring) {
    this.#entriesMax = entriesMax;
    this.#askKeyring = askKeyring;
  }

  /** As `verifyFiles`, with what the policy's keyrings say. The bytes of `files`, and of `rootHash`, must not change later. */
  verify(
    files: readonly Uint8Array[],
    digest: Digest,
    policy: Policy,
    rootHash?: SignedRootHash,
  ): Verification {
    const said = askPolicyKeyrings(files, digest, policy, this.#askKeyring);
    const useful = (said?.signatures.length ?? 0) > 0;
    return withKeyrings(this.#remembered({ files, digest, rootHash, useful }, policy), said);
  }

  #remembered(shown: Shown, policy: Policy): Verification {
    const { files, digest, rootHash } = shown;
    let memory = this.#policies.get(policy);
    if (memory === undefined) {
      memory = { byFile: new WeakMap(), byBytes: new Map() };
      this.#policies.set(policy, memory);
    }
    const only = files.length === 1 && rootHash === undefined ? files[0] : undefined;
    const recent = only === undefined ? undefined : memory.byFile.get(only);
    if (recent?.digest === digest) return recent.verification;
    const verification = this.#byBytes(memory, shown, policy);
    if (only !== undefined) memory.byFile.set(only, { digest, verification });
    return verification;
  }

  #byBytes(memory: PolicyMemory, shown: Shown, policy: Policy): Verification {
    const key = keyOf(shown);
    const known = memory.byBytes.get(key);
    const verification = known ?? verifyFiles(shown.files, shown.digest, policy, shown.rootHash);
    if (!isWorthKeeping(verification, shown.useful)) return verification;
    memory.byBytes.delete(key);
    memory.byBytes.set(key, verification);
    for (const oldest of memory.byBytes.keys()) {
      if (memory.byBytes.size <= this.#entriesMax) break;
      memory.byBytes.delete(oldest);
    }
    return verification;
  }
}

/** What is to be verified. */
interface Shown {
  readonly files: readonly Uint8Array[];
  readonly digest: Digest;
  readonly rootHash: SignedRootHash | undefined;
  /** The files prove something beyond what is remembered. */
  readonly useful: boolean;
}

interface PolicyMemory {
  /** The fastest way: the very same bytes object as before, as an installed image's signature is. */
  readonly byFile: WeakMap<Uint8Array, { readonly digest: Digest; readonly verification: Verification }>;
  readonly byBytes: Map<string, Verification>;
}

/** Claims of keys that nobody knows, remembered with a verification; each is some hundred bytes that a peer chose. */
const unknownKeyIdsMax = 16;

/**
 * Signatures that prove something and bring little else along. Forged ones are different every time anyway: to remember
 * them would only let a peer fill the memory, and push out what others need.
 */
function isWorthKeeping({ statements, digestSignatures, faults }: Verification, useful: boolean): boolean {
  const all = [...statements, ...digestSignatures];
  if (faults.length > 0 || !(useful || all.some(({ signers }) => signers.length > 0))) return false;
  return all.reduce((sum, each) => sum + each.unknownKeyIds.length, 0) <= unknownKeyIdsMax;
}

/** Each file is preceded by its length, so that no two lists of files give the same bytes. */
function keyOf({ files, digest, rootHash }: Shown): string {
  const hash = createHash('sha256').update(digest);
  for (const file of files) hash.update(`\n${file.length}\n`).update(file);
  if (rootHash !== undefined) hash.update(`\n${rootHash.rootHash}\n`).update(rootHash.signature);
  return hash.digest('base64');
}
