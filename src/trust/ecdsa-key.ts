import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { p256, p384 } from '@noble/curves/nist.js';
import { concatBytes, equalBytes, fromHex } from '../base/bytes.ts';
import { keyIdOf } from './key-id.ts';
import type { HashName, PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { SshReader, sshString } from './ssh-wire.ts';

/** What is particular to a curve. */
export interface Curve {
  readonly algorithm: 'ecdsa-p256' | 'ecdsa-p384';
  /** As OpenSSL and node:crypto call it. */
  readonly opensslName: 'prime256v1' | 'secp384r1';
  /** The name of keys and signatures in OpenSSH, and of the curve within them (RFC 5656, section 10.1). */
  readonly sshName: string;
  readonly sshCurve: string;
  /** The hash that goes with the curve, in DSSE as securesystemslib has it and in OpenSSH (RFC 5656, section 6.2.1). */
  readonly hash: 'sha256' | 'sha384';
  /** Bytes of one coordinate, and of r and s. */
  readonly bytes: number;
  /** SubjectPublicKeyInfo up to the uncompressed point (RFC 5480): the curve by name. */
  readonly prefix: Uint8Array;
  readonly noble: typeof p256;
}

/** The curves that are taken. */
export const curves: readonly Curve[] = [
  {
    algorithm: 'ecdsa-p256',
    opensslName: 'prime256v1',
    sshName: 'ecdsa-sha2-nistp256',
    sshCurve: 'nistp256',
    hash: 'sha256',
    bytes: 32,
    prefix: fromHex('3059301306072a8648ce3d020106082a8648ce3d030107034200') ?? new Uint8Array(),
    noble: p256,
  },
  {
    algorithm: 'ecdsa-p384',
    opensslName: 'secp384r1',
    sshName: 'ecdsa-sha2-nistp384',
    sshCurve: 'nistp384',
    hash: 'sha384',
    bytes: 48,
    prefix: fromHex('3076301006072a8648ce3d020106052b81040022036200') ?? new Uint8Array(),
    noble: p384,
  },
];

/** The key of an SPKI structure, or undefined where it is of another algorithm or form. Throws KeyInvalid. */
export function ecdsaFromSpki(der: Uint8Array): PublicKey | undefined {
  const curve = curves.find(({ prefix }) => equalBytes(der.subarray(0, prefix.length), prefix));
  return curve && ecdsaKey(curve, der.subarray(curve.prefix.length));
}

/**
 * The key whose point this is, uncompressed: 4, x, y. A signature is taken in one form only: DER of r and s as short as
 * it can be, both within 1 to n - 1. Either of s and n - s is taken: DSSE does not say which, and OpenSSL, OpenSSH and
 * sigstore make both. Nothing here goes by a signature's bytes being unique. Throws KeyInvalid.
 */
export function ecdsaKey(curve: Curve, point: Uint8Array): PublicKey {
  checkPoint(curve, point);
  const spki = concatBytes(curve.prefix, point);
  const object = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  const verifyHashed = (hash: HashName, message: Uint8Array, der: Uint8Array): boolean => {
    if (!isStrictDer(curve, der)) return false;
    return verifySignature(hash, message, { key: object, dsaEncoding: 'der' }, der);
  };
  const verify = (message: Uint8Array, der: Uint8Array): boolean => verifyHashed(curve.hash, message, der);
  return {
    id: keyIdOf(spki),
    algorithm: curve.algorithm,
    spki,
    sshBlob: concatBytes(sshString(curve.sshName), sshString(curve.sshCurve), sshString(point)),
    verify,
    verifyHashed,
    verifySsh(algorithm, message, signature): boolean {
      const der = algorithm === curve.sshName ? derOfSsh(curve, signature) : undefined;
      return der !== undefined && verify(message, der);
    },
  };
}

/** On a curve of prime order, any point but the neutral one is a key; that one has no uncompressed form. */
function checkPoint(curve: Curve, point: Uint8Array): void {
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4) {
    throw new KeyInvalid('not an uncompressed point of its curve');
  }
  try {
    curve.noble.Point.fromBytes(point).assertValidity();
  } catch {
    throw new KeyInvalid('not a point of its curve');
  }
}

function isStrictDer(curve: Curve, der: Uint8Array): boolean {
  // Two integers of at most one byte more than a coordinate, each with two bytes before it, and the sequence's two or three.
  if (der.length > 2 * (curve.bytes + 3) + 3) return false;
  try {
    return equalBytes(curve.noble.Signature.fromBytes(der, 'der').toBytes('der'), der);
  } catch {
    return false; // noble throws for other forms, and for numbers out of range
  }
}

/** DER of the mpints r and s (RFC 5656, section 3.1.2), or undefined for anything else. */
export function derOfSsh(curve: Curve, signature: Uint8Array): Uint8Array | undefined {
  try {
    const reader = new SshReader(signature);
    const compact = new Uint8Array(2 * curve.bytes);
    for (const end of [curve.bytes, 2 * curve.bytes]) {
      const number = reader.positiveInteger();
      if (number.length > curve.bytes) return undefined;
      compact.set(number, end - number.length);
    }
    reader.end();
    return curve.noble.Signature.fromBytes(compact, 'compact').toBytes('der');
  } catch {
    return undefined; // cut short, or numbers out of range
  }
}
