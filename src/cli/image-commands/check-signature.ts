import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Digest } from '../../base/digest.ts';
import { defaultPolicyDirectories } from '../../policy/load.ts';
import { PolicyInvalid } from '../../policy/fault.ts';
import { askPolicyKeyrings, verifyFiles, withKeyrings } from '../../policy/verify-files.ts';
import { askKeyring } from '../../sys/keyring.ts';
import { isSelfConsistent } from '../../trust/self-consistent.ts';
import { verifySignatures, type Verification } from '../../trust/verify.ts';
import { CommandError } from '../command-error.ts';
import { loadPolicyWithWarnings } from '../offline-decision.ts';
import { warn } from '../output.ts';

/**
 * Makes sure that the signature file `file` (`path` for errors) is one of the image with this digest, and where there is a
 * policy (`directory`, or the service's own) that one of its keys made it. Throws CommandError.
 */
export function checkSignature(
  path: string,
  file: Uint8Array,
  digest: Digest,
  directory: string | undefined,
): void {
  const known = byPolicy(file, digest, directory);
  const {
    statements,
    digestSignatures,
    keyringSignatures = [],
    faults,
  } = known ?? verifySignatures([file], digest, []);
  const about = [...statements, ...digestSignatures];
  if (about.length === 0 && !isSelfConsistent(file, digest))
    throw new CommandError(`${path}: no signature of this image: ${faults.join('; ')}`);
  if (known === undefined || keyringSignatures.length > 0) return;
  if (about.some(({ signers }) => signers.length > 0)) return;
  const unknown = about.flatMap(({ unknownKeyIds }) => unknownKeyIds);
  const by = unknown.length === 0 ? '' : ` (signed by ${unknown.join(', ')})`;
  throw new CommandError(
    `${path}: no key of the policy made this signature${by}; with --no-verify it is installed all the same`,
  );
}

/** What the policy's keys say of it; undefined where there is no policy. */
function byPolicy(file: Uint8Array, digest: Digest, directory: string | undefined): Verification | undefined {
  const places = directory === undefined ? defaultPolicyDirectories : [directory];
  if (directory === undefined && !places.some((place) => existsSync(join(place, 'policy.d'))))
    return undefined;
  try {
    const { policy } = loadPolicyWithWarnings(directory);
    return withKeyrings(
      verifyFiles([file], digest, policy),
      askPolicyKeyrings([file], digest, policy, askKeyring),
    );
  } catch (error) {
    if (directory !== undefined || !(error instanceof PolicyInvalid)) throw error;
    warn(`the signature was not checked by the policy, which does not load: ${error.message}`);
    return undefined;
  }
}
