import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { concatBytes } from '../base/bytes.ts';
import type { Curve } from './ecdsa-key.ts';
import { curves } from './ecdsa-key.ts';
import { sshEd25519 } from './ed25519-key.ts';
import { parseSpki } from './key.ts';
import type { HashName, PublicKey } from './public-key.ts';
import { KeyInvalid, unsupportedKey } from './public-key.ts';
import { sshPositiveInteger } from './ssh-wire.ts';

/** A private key. Its bytes stay inside node:crypto. */
export interface PrivateKey {
  readonly publicKey: PublicKey;
  /** A signature as DSSE carries it (see PublicKey). Throws KeyInvalid for an RSA key. */
  sign(message: Uint8Array): Uint8Array;
  /** A signature as OpenSSH writes it, with the name of its algorithm. */
  signSsh(message: Uint8Array): { readonly algorithm: string; readonly signature: Uint8Array };
  /** A signature as certificates and CMS carry it (see PublicKey.verifyHashed). */
  readonly signHashed: (hash: HashName, message: Uint8Array) => Uint8Array;
}

/** A key pair as it is written to files. */
export interface KeyPairText {
  /** PKCS#8, PEM. */
  readonly privatePem: string;
  /** SPKI, PEM. */
  readonly publicPem: string;
  readonly publicKey: PublicKey;
}

/** The kinds of keys that generateKeyPair makes, the default first. */
export const generatedAlgorithms = ['ed25519', 'ecdsa-p256', 'ecdsa-p384'] as const;

/** Makes a key pair; with a passphrase the private half is encrypted (PBES2: PBKDF2 and AES-256). */
export function generateKeyPair(
  algorithm: (typeof generatedAlgorithms)[number] = 'ed25519',
  passphrase?: string,
): KeyPairText {
  const curve = curves.find((known) => known.algorithm === algorithm);
  const { privateKey, publicKey } =
    curve === undefined
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: curve.opensslName });
  const encryption = passphrase === undefined ? {} : { cipher: 'aes-256-cbc', passphrase };
  return {
    privatePem: String(privateKey.export({ format: 'pem', type: 'pkcs8', ...encryption })),
    publicPem: String(publicKey.export({ format: 'pem', type: 'spki' })),
    publicKey: publicHalf(privateKey),
  };
}

/** Whether the file holds a private key that takes a passphrase. */
export function isEncryptedPrivateKey(pem: string): boolean {
  return pem.trimStart().startsWith('-----BEGIN ENCRYPTED PRIVATE KEY-----');
}

/** The private key that a PKCS#8 PEM file holds. Throws KeyInvalid. */
export function parsePrivateKey(pem: string, passphrase?: string): PrivateKey {
  const text = pem.trim();
  if (text.startsWith('-----BEGIN OPENSSH PRIVATE KEY-----')) {
    throw new KeyInvalid(
      'a private key of OpenSSH, where PKCS#8 PEM is wanted; sign with `ssh-keygen -Y sign` instead (format ssh)',
    );
  }
  if (text.startsWith('-----BEGIN PUBLIC KEY-----')) {
    throw new KeyInvalid('a public key, where the private one is wanted');
  }
  if (isEncryptedPrivateKey(text)) {
    if (passphrase === undefined)
      throw new KeyInvalid('an encrypted private key, which needs its passphrase');
  } else if (passphrase !== undefined) {
    throw new KeyInvalid('a passphrase was given, and the private key is not encrypted');
  }
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: text, format: 'pem', ...(passphrase !== undefined && { passphrase }) });
  } catch {
    throw new KeyInvalid(
      passphrase === undefined
        ? 'not a private key in PKCS#8 PEM'
        : 'the passphrase is not the right one, or the file is damaged',
    );
  }
  return privateKey(key);
}

function privateKey(key: KeyObject): PrivateKey {
  const publicKey = publicHalf(key);
  const curve = curves.find(({ algorithm }) => algorithm === publicKey.algorithm);
  if (curve !== undefined) return ecdsaPrivateKey(key, publicKey, curve);
  if (publicKey.algorithm === 'rsa') {
    return {
      publicKey,
      sign: () => {
        throw new KeyInvalid("an RSA key, which signs in OpenSSH's format only (--format ssh)");
      },
      signSsh: (message) => ({ algorithm: 'rsa-sha2-512', signature: signed('sha512', message, key) }),
      signHashed: (hash, message) => signed(hash, message, key),
    };
  }
  return {
    publicKey,
    sign: (message) => signed(null, message, key),
    signSsh: (message) => ({ algorithm: sshEd25519, signature: signed(null, message, key) }),
    signHashed: (_hash, message) => signed(null, message, key),
  };
}

function ecdsaPrivateKey(key: KeyObject, publicKey: PublicKey, curve: Curve): PrivateKey {
  return {
    publicKey,
    sign: (message) => new Uint8Array(sign(curve.hash, message, { key, dsaEncoding: 'der' })),
    signSsh(message) {
      const both = new Uint8Array(sign(curve.hash, message, { key, dsaEncoding: 'ieee-p1363' }));
      const [r, s] = [both.subarray(0, curve.bytes), both.subarray(curve.bytes)];
      const signature = concatBytes(sshPositiveInteger(r), sshPositiveInteger(s));
      return { algorithm: curve.sshName, signature };
    },
    signHashed: (hash, message) => new Uint8Array(sign(hash, message, { key, dsaEncoding: 'der' })),
  };
}

function signed(hash: string | null, message: Uint8Array, key: KeyObject): Uint8Array {
  return new Uint8Array(sign(hash, message, key));
}

function publicHalf(key: KeyObject): PublicKey {
  const kind = key.asymmetricKeyType ?? 'unknown';
  if (kind !== 'ed25519' && kind !== 'ec' && kind !== 'rsa') throw unsupportedKey(kind);
  return parseSpki(new Uint8Array(createPublicKey(key).export({ format: 'der', type: 'spki' })));
}
