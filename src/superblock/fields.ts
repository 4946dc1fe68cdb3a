import { SuperblockInvalid } from './superblock-invalid.ts';

/** The text of a field that zeros fill, or undefined where it is empty. Bytes that are no UTF-8 become U+FFFD. */
export function textField(head: DataView, offset: number, bytes: number): string | undefined {
  const field = new Uint8Array(head.buffer, head.byteOffset + offset, bytes);
  const end = field.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  return text === '' ? undefined : text;
}

/** A UUID as people write it, or undefined where all of it is zero. */
export function uuidField(head: DataView, offset: number): string | undefined {
  const hex = Buffer.from(head.buffer, head.byteOffset + offset, 16).toString('hex');
  if (/^0+$/.test(hex)) return undefined;
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** A size in bytes that is counted in blocks. Throws SuperblockInvalid where it is beyond any file. */
export function sizeInBytes(blocks: bigint, blockBytes: number): number {
  const bytes = blocks * BigInt(blockBytes);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new SuperblockInvalid('its size is beyond any file');
  return Number(bytes);
}

/** The size of blocks, which has to be a power of two from `least` to `most`. Throws SuperblockInvalid. */
export function blockSize(bytes: number, least: number, most: number): number {
  if (bytes >= least && bytes <= most && (bytes & (bytes - 1)) === 0) return bytes;
  throw new SuperblockInvalid(`blocks of ${bytes} bytes are none that it has`);
}

/** Throws SuperblockInvalid unless `holds`. */
export function demand(holds: boolean, reason: string): void {
  if (!holds) throw new SuperblockInvalid(reason);
}
