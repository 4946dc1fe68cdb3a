import { fromBase64 } from '../base/bytes.ts';
import type { Digest } from '../base/digest.ts';
import { digestHex } from '../base/digest.ts';
import { attributePkcs7 } from './attribute-pkcs7.ts';
import type { TrustedCertificate } from './certificate-path.ts';
import type { DigestSignatures } from './digest-signatures.ts';
import { JsonInvalid, parseStrictJson } from './json.ts';
import { parsePkcs7Signature, pkcs7BytesMax, Pkcs7Invalid, rootHashText } from './pkcs7-signature.ts';

/** The most that a signature partition may say, in bytes: a PKCS#7 signature in base64, and room for the rest. */
export const rootHashSignatureBytesMax: number = Math.ceil(pkcs7BytesMax / 3) * 4 + 1024;

/** A root hash by which dm-verity checks a partition, and what the image's signature partition says of it, unread. */
export interface SignedRootHash {
  readonly rootHash: Digest;
  /** The text, without the zeros that fill the partition; at most rootHashSignatureBytesMax bytes. */
  readonly signature: Uint8Array;
}

/** The signature partition does not hold what it should; the message says why. */
class RootHashSignatureInvalid extends Error {
  override readonly name = 'RootHashSignatureInvalid';
}

/** Finds out who signed the root hash, as attributePkcs7 does; what is wrong with the signature is among `faults`. */
export function attributeRootHash(
  { rootHash, signature }: SignedRootHash,
  trusted: readonly TrustedCertificate[],
  faults: string[],
): readonly DigestSignatures[] {
  const where = "the root hash's signature";
  try {
    const claim = { where, signature: parsePkcs7Signature(parseText(signature, rootHash)) };
    const what = `the root hash ${digestHex(rootHash)}`;
    const content = { format: 'dmverity-pkcs7', bytes: rootHashText(rootHash), what } as const;
    return attributePkcs7([claim], content, trusted, faults);
  } catch (error) {
    const isMalformed = [RootHashSignatureInvalid, JsonInvalid, Pkcs7Invalid].some(
      (known) => error instanceof known,
    );
    if (!isMalformed || !(error instanceof Error)) throw error;
    faults.push(`${where} is malformed: ${error.message}`);
    return [];
  }
}

/**
 * The PKCS#7 signature in the text of a signature partition (UAPI.2): a JSON object, whose other members decide nothing. The
 * certificate's fingerprint, which is one of them, is a hint: the signature itself names its certificate.
 */
function parseText(text: Uint8Array, rootHash: Digest): Uint8Array {
  const value = parseStrictJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new RootHashSignatureInvalid('it is no JSON object');
  const members = new Map<string, unknown>(Object.entries(value));
  const stated = members.get('rootHash');
  if (stated !== digestHex(rootHash))
    throw new RootHashSignatureInvalid("it is about another root hash than the partitions' UUIDs state");
  const signature = members.get('signature');
  const pkcs7 = typeof signature === 'string' ? fromBase64(signature) : undefined;
  if (pkcs7 === undefined) throw new RootHashSignatureInvalid('its member "signature" is no base64');
  return pkcs7;
}
