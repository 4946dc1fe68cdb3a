import type { ByteSource } from '../../src/base/byte-source.ts';

/** An image that lies in memory. */
export function memorySource(image: Uint8Array): ByteSource {
  return { bytes: image.length, read: (offset, length) => image.subarray(offset, offset + length) };
}
