import type { CertificatePath } from './certificate-path.ts';
import type { KeyId } from './public-key.ts';

/**
 * Who signed the image's digest, or for dmverity-pkcs7 the root hash in it, in a format that states nothing else: no name, no version,
 * no filesystem, no time.
 */
export interface DigestSignatures {
  readonly format: 'ssh' | 'fsverity-pkcs7' | 'dmverity-pkcs7';
  /** Known keys with a sound signature, each once; those of trusted certificates where others signed that these vouch for. */
  readonly signers: readonly KeyId[];
  /** Keys, as claimed, that are none of the known ones: OpenSSH's fingerprint, or a certificate's key or serial number. */
  readonly unknownKeyIds: readonly string[];
  /** How the signers' certificates lead to those of `signers`; for the formats of PKCS#7, and then what those count by. */
  readonly paths?: readonly CertificatePath[];
}
