import type { Brand } from './brand.ts';
import { fromHex, toHex } from './bytes.ts';

/** A fs-verity digest (SHA-256, 4096-byte blocks, no salt) written `sha256:<64 lower-case hex digits>`. */
export type Digest = Brand<string, 'Digest'>;

const prefix = 'sha256:';

/** The digest that `text` writes, or undefined unless it is `sha256:` and 64 lower-case hexadecimal digits. */
export function parseDigest(text: string): Digest | undefined {
  return /^sha256:[0-9a-f]{64}$/.test(text) ? (text as Digest) : undefined;
}

/** The digest whose 32 bytes these are. */
export function digestFromBytes(bytes: Uint8Array): Digest {
  if (bytes.length !== 32) throw new RangeError(`a SHA-256 digest has 32 bytes, not ${bytes.length}`);
  return `${prefix}${toHex(bytes)}` as Digest;
}

/** The 64 hexadecimal digits alone. */
export function digestHex(digest: Digest): string {
  return digest.slice(prefix.length);
}

/** The 32 bytes. */
export function digestBytes(digest: Digest): Uint8Array {
  const bytes = fromHex(digestHex(digest));
  if (bytes === undefined) throw new TypeError(`not a digest: ${digest}`);
  return bytes;
}
