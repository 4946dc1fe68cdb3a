import type { Digest } from '../base/digest.ts';
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
