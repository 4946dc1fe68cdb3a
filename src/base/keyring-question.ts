/** What the kernel is asked about one of its keyrings: did the key with that identifier make this signature? */
export interface KeyringQuestion {
  /** The keyring's name, such as `.fs-verity`. */
  readonly keyring: string;
  /**
   * How the kernel knows the key of an X.509 certificate: the bytes of the serial number and then those of the issuer's name (of the SEQUENCE's
   * content), or the subject key identifier (Documentation/crypto/asymmetric-keys.rst).
   */
  readonly identifier: Uint8Array;
  readonly family: 'rsa' | 'ecdsa';
  readonly hash: 'sha256' | 'sha384' | 'sha512';
  /** The hash of what is signed. */
  readonly hashed: Uint8Array;
  /** PKCS#1 v1.5 as long as the modulus, or r and s in DER. */
  readonly signature: Uint8Array;
}

/** What the kernel says. */
export type KeyringAnswer =
  /** The key of the keyring made it; `subjectKeyId` is hex of the 20 bytes by which the certificate calls the key, where it does. */
  | { readonly made: true; readonly subjectKeyId: string | undefined }
  /** It did not, or nobody can tell; `why` is undefined where the keyring has no such key. */
  | { readonly made: false; readonly why: string | undefined };

/** Asks the kernel. Never throws for what the question holds, or for what the kernel lacks. */
export type AskKeyring = (question: KeyringQuestion) => KeyringAnswer;
