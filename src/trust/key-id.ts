import { sha256 } from '@noble/hashes/sha2.js';
import { fromHex, toHex } from '../base/bytes.ts';
import type { KeyId } from './public-key.ts';

/** The ID of the key with this SubjectPublicKeyInfo, DER. */
export function keyIdOf(spki: Uint8Array): KeyId {
  return toHex(sha256(spki)) as KeyId;
}

/** The key ID that `text` writes, or undefined unless it is 64 lower-case hexadecimal digits. */
export function parseKeyId(text: string): KeyId | undefined {
  return text.length === 64 && fromHex(text) !== undefined ? (text as KeyId) : undefined;
}
