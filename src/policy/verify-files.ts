import type { Digest } from '../base/digest.ts';
import type { AskKeyring } from '../base/keyring-question.ts';
import { askKeyrings, type KeyringEvidence } from '../trust/keyring-signature.ts';
import { verifySignatures, type Verification } from '../trust/verify.ts';
import type { SignedRootHash } from '../trust/root-hash-signature.ts';
import type { Policy } from './policy.ts';

/** What the signature files, and the signed root hash in the image, prove about it, by all the policy's keys and certificates. */
export function verifyFiles(
  files: readonly Uint8Array[],
  digest: Digest,
  { keys }: Policy,
  rootHash?: SignedRootHash,
): Verification {
  const all = [...keys.values()];
  return verifySignatures(
    files,
    digest,
    all.map(({ key }) => key),
    all.flatMap(({ certificates, authority }) =>
      certificates.map((certificate) => ({ certificate, authority })),
    ),
    rootHash,
  );
}

/** What the policy's keyrings say of the files now; undefined where it names none. To be asked anew each time. */
export function askPolicyKeyrings(
  files: readonly Uint8Array[],
  digest: Digest,
  { keys, keyrings, revokedKeys }: Policy,
  ask: AskKeyring,
): KeyringEvidence | undefined {
  if (keyrings.size === 0) return undefined;
  const names = new Set([...keyrings.values()].map(({ keyring }) => keyring));
  // Which key it was matters only where it could be a revoked one.
  const known = revokedKeys.size === 0 ? [] : [...keys.values()].map(({ key }) => key);
  return askKeyrings(files, digest, { keyrings: [...names], known }, ask);
}

/** What is known of the files, with what the keyrings say of them. */
export function withKeyrings(known: Verification, said: KeyringEvidence | undefined): Verification {
  if (said === undefined || (said.signatures.length === 0 && said.faults.length === 0)) return known;
  return { ...known, keyringSignatures: said.signatures, faults: [...known.faults, ...said.faults] };
}
