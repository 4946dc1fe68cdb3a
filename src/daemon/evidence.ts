import { createHash } from 'node:crypto';
import type { Digest } from '../base/digest.ts';
import type { Policy } from '../policy/policy.ts';
import { verifyFiles } from '../policy/verify-files.ts';
import type { SignedRootHash } from '../trust/root-hash-signature.ts';
import type { Verification } from '../trust/verify.ts';

/**
 * What signatures prove, remembered: an Ed25519 verification takes 2 to 4 ms. What they prove depends on nothing but
 * their bytes, the image's digest and the policy's keys, so each policy object has a memory of its own, which goes
 * with it. Time, revocation and rules are asked anew each time (policy/decide.ts).
 */
export class EvidenceCache {
  readonly #entriesMax: number;
  readonly #policies = new WeakMap<Policy, PolicyMemory>();

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  /** As `verifyFiles`. The bytes of `files`, and of `rootHash`, must not change later. */
  verify(
    files: readonly Uint8Array[],
    digest: Digest,
    policy: Policy,
    rootHash?: SignedRootHash,
  ): Verification {
    let memory = this.#policies.get(policy);
    if (memory === undefined) {
      memory = { byFile: new WeakMap(), byBytes: new Map() };
      this.#policies.set(policy, memory);
    }
    const only = files.length === 1 && rootHash === undefined ? files[0] : undefined;
    const recent = only === undefined ? undefined : memory.byFile.get(only);
    if (recent?.digest === digest) return recent.verification;
    const verification = this.#byBytes(memory, files, digest, policy, rootHash);
    if (only !== undefined) memory.byFile.set(only, { digest, verification });
    return verification;
  }

  #byBytes(
    memory: PolicyMemory,
    files: readonly Uint8Array[],
    digest: Digest,
    policy: Policy,
    rootHash: SignedRootHash | undefined,
  ): Verification {
    const key = keyOf(files, digest, rootHash);
    const known = memory.byBytes.get(key);
    const verification = known ?? verifyFiles(files, digest, policy, rootHash);
    if (!isWorthKeeping(verification)) return verification;
    memory.byBytes.delete(key);
    memory.byBytes.set(key, verification);
    for (const oldest of memory.byBytes.keys()) {
      if (memory.byBytes.size <= this.#entriesMax) break;
      memory.byBytes.delete(oldest);
    }
    return verification;
  }
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
function isWorthKeeping({ statements, digestSignatures, faults }: Verification): boolean {
  const all = [...statements, ...digestSignatures];
  if (faults.length > 0 || !all.some(({ signers }) => signers.length > 0)) return false;
  return all.reduce((sum, each) => sum + each.unknownKeyIds.length, 0) <= unknownKeyIdsMax;
}

/** Each file is preceded by its length, so that no two lists of files give the same bytes. */
function keyOf(files: readonly Uint8Array[], digest: Digest, rootHash: SignedRootHash | undefined): string {
  const hash = createHash('sha256').update(digest);
  for (const file of files) hash.update(`\n${file.length}\n`).update(file);
  if (rootHash !== undefined) hash.update(`\n${rootHash.rootHash}\n`).update(rootHash.signature);
  return hash.digest('base64');
}
