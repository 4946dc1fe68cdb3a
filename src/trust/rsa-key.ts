import { createPublicKey, verify as verifySignature } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { concatBytes } from '../base/bytes.ts';
import { keyIdOf } from './key-id.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { sshPositiveInteger, sshString } from './ssh-wire.ts';

/** The name of RSA keys in OpenSSH. Signatures of this name are over SHA-1, and not taken. */
export const sshRsa = 'ssh-rsa';

/** Hashes by the signature algorithms of RFC 8332. */
const hashes: ReadonlyMap<string, string> = new Map([
  ['rsa-sha2-256', 'sha256'],
  ['rsa-sha2-512', 'sha512'],
]);

/** The least that is still held to be safe. */
export const rsaBitsMin = 2048;

/** A key of 16,384 bits takes milliseconds per signature; nobody uses more than 4,096. */
const rsaBitsMax = 8192;

/**
 * The RSA key of an object of node:crypto. Signatures are RSASSA-PKCS1-v1_5 as long as the modulus. Throws KeyInvalid
 * for fewer than 2,048 bits, more than 8,192, an exponent below 65,537 (FIPS 186-5, A.1.1), an even one, or one of more than 64 bits.
 */
export function rsaKey(object: KeyObject): PublicKey {
  const { n = '', e = '' } = object.export({ format: 'jwk' });
  const modulus = Buffer.from(n, 'base64url');
  const exponent = Buffer.from(e, 'base64url');
  checkSize(modulus, exponent);
  const spki = new Uint8Array(object.export({ format: 'der', type: 'spki' }));
  return {
    id: keyIdOf(spki),
    algorithm: 'rsa',
    spki,
    sshBlob: concatBytes(sshString(sshRsa), sshPositiveInteger(exponent), sshPositiveInteger(modulus)),
    verify: () => false,
    verifySsh(algorithm, message, signature): boolean {
      const hash = hashes.get(algorithm);
      if (hash === undefined || signature.length !== modulus.length) return false;
      return verifySignature(hash, message, object, signature);
    },
    verifyHashed: (hash, message, signature) =>
      signature.length === modulus.length && verifySignature(hash, message, object, signature),
  };
}

/** The key of a modulus and an exponent, big-endian. Throws KeyInvalid. */
export function rsaKeyOfNumbers(modulus: Uint8Array, exponent: Uint8Array): PublicKey {
  checkSize(modulus, exponent);
  const n = Buffer.from(modulus).toString('base64url');
  const e = Buffer.from(exponent).toString('base64url');
  return rsaKey(createPublicKey({ key: { kty: 'RSA', n, e }, format: 'jwk' }));
}

/** Both without leading zeros. */
function checkSize(modulus: Uint8Array, exponent: Uint8Array): void {
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (bits < rsaBitsMin || bits > rsaBitsMax) {
    throw new KeyInvalid(
      `an RSA key of ${Math.max(bits, 0)} bits, where ${rsaBitsMin} to ${rsaBitsMax} are taken`,
    );
  }
  if (((modulus.at(-1) ?? 0) & 1) === 0) throw new KeyInvalid('an RSA key with an even modulus');
  const value = exponent.length > 8 ? 0n : BigInt(`0x${Buffer.from(exponent).toString('hex') || '0'}`);
  if (value < 65_537n || value % 2n === 0n) {
    throw new KeyInvalid('an RSA key whose exponent is not odd, or not within 65537 to 2^64 - 1');
  }
}
