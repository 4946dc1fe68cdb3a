import { verityBlockBytes } from './verity.ts';

/** How fs-verity hashes a file. */
export interface VerityForm {
  /** FS_VERITY_HASH_ALG_*: 1 is SHA-256, 2 is SHA-512. */
  readonly algorithm: number;
  readonly blockBytes: number;
  readonly saltBytes: number;
}

/** FS_VERITY_HASH_ALG_SHA256, include/uapi/linux/fsverity.h. */
const sha256 = 1;
const descriptorBytes = 256;
const saltBytesMax = 32;
/** Blocks are at most as long as a page of memory, and no machine that Linux runs on has longer ones (256 KiB). */
const logBlockBytesMax = 18;

/**
 * The form that a file's fsverity_descriptor says ("fs-verity descriptor" in Documentation/filesystems/fsverity.rst of
 * Linux); undefined for what is none, or one of another version than 1.
 */
export function parseVerityDescriptor(bytes: Uint8Array): VerityForm | undefined {
  const [version = 0, algorithm = 0, logBlockBytes = 0, saltBytes = 0] = bytes;
  if (bytes.length < descriptorBytes || version !== 1) return undefined;
  if (logBlockBytes > logBlockBytesMax || saltBytes > saltBytesMax) return undefined;
  return { algorithm, blockBytes: 1 << logBlockBytes, saltBytes };
}

/**
 * What keeps a digest of this form from being an image's or an object's, in words: those are SHA-256 over blocks of
 * 4096 bytes without a salt. Undefined where nothing does.
 */
export function foreignForm({ algorithm, blockBytes, saltBytes }: VerityForm): string | undefined {
  const found = [
    ...(algorithm === sha256 ? [] : [`${algorithmName(algorithm)} instead of SHA-256`]),
    ...(blockBytes === verityBlockBytes
      ? []
      : [`blocks of ${blockBytes} bytes instead of ${verityBlockBytes}`]),
    ...(saltBytes === 0 ? [] : ['a salt']),
  ];
  return found.length === 0 ? undefined : found.join(' and ');
}

function algorithmName(algorithm: number): string {
  return algorithm === 2 ? 'SHA-512' : `hash algorithm ${algorithm}`;
}
