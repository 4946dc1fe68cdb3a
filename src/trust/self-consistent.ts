import type { Digest } from '../base/digest.ts';
import { CertificateInvalid, parseCertificate } from './certificate.ts';
import {
  formattedDigest,
  isPkcs7Signature,
  parsePkcs7Signature,
  Pkcs7Invalid,
  verifyPkcs7Signer,
} from './pkcs7-signature.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { parseSshBlob } from './ssh-public-key.ts';
import { parseSshSignature, SshSignatureInvalid, verifySshSignature } from './ssh-signature.ts';

/**
 * Whether a signature over a bare digest holds over this one by a key that it brings along itself. That proves nothing about who
 * signed; it tells a signature that goes with an image from one that goes with another.
 */
export function isSelfConsistent(file: Uint8Array, digest: Digest): boolean {
  try {
    return isPkcs7Signature(file) ? holdsByOwnCertificate(file, digest) : holdsByOwnKey(file, digest);
  } catch (error) {
    if (error instanceof Pkcs7Invalid || error instanceof SshSignatureInvalid || error instanceof KeyInvalid)
      return false;
    throw error;
  }
}

function holdsByOwnKey(file: Uint8Array, digest: Digest): boolean {
  const signature = parseSshSignature(file);
  const claimed = parseSshBlob(signature.keyBlob);
  return claimed !== undefined && verifySshSignature(signature, digest, claimed.key);
}

function holdsByOwnCertificate(file: Uint8Array, digest: Digest): boolean {
  const { certificates, signers } = parsePkcs7Signature(file);
  const keys = certificates.map(keyOf).filter((key) => key !== undefined);
  const content = formattedDigest(digest);
  return signers.some((signer) => keys.some((key) => verifyPkcs7Signer(signer, content, key)));
}

function keyOf(der: Uint8Array): PublicKey | undefined {
  try {
    return parseCertificate(der).key;
  } catch (error) {
    if (error instanceof CertificateInvalid) return undefined;
    throw error;
  }
}
