import type { Brand } from '../base/brand.ts';

/** What a key is, whatever it is called: the lower-case hex SHA-256 of its SPKI DER. */
export type KeyId = Brand<string, 'KeyId'>;

/** The kinds of keys that are taken. RSA keys sign no DSSE. */
export type KeyAlgorithm = 'ed25519' | 'ecdsa-p256' | 'ecdsa-p384' | 'rsa';

/** The hashes that X.509 and CMS signatures are taken with. */
export type HashName = 'sha256' | 'sha384' | 'sha512';

/** A public key. */
export interface PublicKey {
  readonly id: KeyId;
  readonly algorithm: KeyAlgorithm;
  /** SubjectPublicKeyInfo, DER, in the one form that is taken (RFC 8410, RFC 5480, RFC 8017). */
  readonly spki: Uint8Array;
  /** The key as OpenSSH writes it, before base64 (RFC 4253, section 6.6; RFC 5656; RFC 8709). */
  readonly sshBlob: Uint8Array;
  /**
   * Whether the signature over the message is this key's, in the form that DSSE carries: the 64 bytes of RFC 8032, or
   * DER of r and s over SHA-256 (P-256) or SHA-384 (P-384). Never throws; no signature of an RSA key holds.
   */
  verify(message: Uint8Array, signature: Uint8Array): boolean;
  /** The same for a signature as OpenSSH writes it, made with the signature algorithm of that name. Never throws. */
  verifySsh(algorithm: string, message: Uint8Array, signature: Uint8Array): boolean;
  /**
   * The same for a signature as certificates and CMS carry it, over the message by that hash: RSASSA-PKCS1-v1_5, or DER of r and s;
   * the 64 bytes of RFC 8032, over the message itself, whatever the hash. Never throws.
   */
  verifyHashed(hash: HashName, message: Uint8Array, signature: Uint8Array): boolean;
}

/** The text holds no key that can be used; the message says why. */
export class KeyInvalid extends Error {
  override readonly name = 'KeyInvalid';
}

/** The error for a kind of key that is known to somebody, but not taken. */
export function unsupportedKey(kind: string): KeyInvalid {
  return new KeyInvalid(
    `a key of kind ${kind.slice(0, 64)}, which this version does not take; it takes Ed25519, ECDSA on P-256 and P-384, and RSA`,
  );
}
