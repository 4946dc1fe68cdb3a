import type { Digest } from '../../base/digest.ts';
import { EnvelopeInvalid, parseEnvelope } from '../../trust/dsse.ts';
import { isPkcs7Signature } from '../../trust/pkcs7-signature.ts';
import { isSelfConsistent } from '../../trust/self-consistent.ts';
import { isSshSignature } from '../../trust/ssh-signature.ts';
import { parseStatement, StatementInvalid } from '../../trust/statement.ts';

/**
 * The image that a signature file names; undefined for what names none: signatures of OpenSSH's and of fs-verity's hold for a
 * digest that they do not write down. Says nothing about who signed it.
 */
export function statedDigest(signatureFile: Uint8Array): Digest | undefined {
  try {
    return parseStatement(parseEnvelope(signatureFile).payload).digest;
  } catch (error) {
    if (error instanceof EnvelopeInvalid || error instanceof StatementInvalid) return undefined;
    throw error;
  }
}

/** Whether a signature file is seen to be about the image, whoever signed it. False also where that cannot be seen. */
export function isAbout(signatureFile: Uint8Array, digest: Digest): boolean {
  const bare = isSshSignature(signatureFile) || isPkcs7Signature(signatureFile);
  return bare ? isSelfConsistent(signatureFile, digest) : statedDigest(signatureFile) === digest;
}
