import { toHex } from '../base/bytes.ts';
import { DiskImageError } from './errors.ts';

/** A partition of a table. */
export interface Partition {
  /** Its place in the table, from 1, as the kernel and systemd count. */
  readonly number: number;
  /** UUIDs in lower case. */
  readonly type: string;
  readonly uuid: string;
  /** The 64 attribute bits of its entry. */
  readonly attributes: bigint;
  readonly label: string;
  /** Where it lies, in bytes. */
  readonly offset: number;
  readonly bytes: number;
}

/** Where an entry lies, in bytes, and between which blocks partitions may. */
interface EntryPlace {
  readonly number: number;
  readonly offset: number;
  readonly sectorBytes: number;
  readonly firstUsable: number;
  readonly lastUsable: number;
}

/** The specification lets entries be larger; nothing makes them so, and the kernel reads no others. */
export const entryBytes = 128;

/** Table 5.6 of the UEFI specification: undefined for an unused entry. Throws DiskImageError. */
export function parseEntry(entry: Uint8Array, place: EntryPlace): Partition | undefined {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  const type = parseGuid(entry.subarray(0, 16));
  if (type === nilUuid) return undefined;
  const { number, offset, sectorBytes, firstUsable, lastUsable } = place;
  const fail = (field: number, reason: string): never => {
    throw new DiskImageError(offset + field, `the partition ${number} ${reason}`);
  };
  const uuid = parseGuid(entry.subarray(16, 32));
  if (uuid === nilUuid) fail(16, 'has no UUID');
  const first = view.getBigUint64(32, true);
  const last = view.getBigUint64(40, true);
  if (first > last) fail(32, `begins in block ${first} and ends before, in ${last}`);
  const range = `from ${firstUsable} to ${lastUsable}`;
  if (first < BigInt(firstUsable)) fail(32, `begins in block ${first}, outside of what is usable, ${range}`);
  if (last > BigInt(lastUsable)) fail(40, `ends in block ${last}, outside of what is usable, ${range}`);
  return {
    number,
    type,
    uuid,
    attributes: view.getBigUint64(48, true),
    label: parseLabel(entry.subarray(56, 128)) ?? fail(56, 'has a name that is not UTF-16'),
    offset: Number(first) * sectorBytes,
    bytes: (Number(last - first) + 1) * sectorBytes,
  };
}

const nilUuid = '00000000-0000-0000-0000-000000000000';

/** The text of a GUID: its first three fields are little-endian (appendix A). */
export function parseGuid(bytes: Uint8Array): string {
  const part = (start: number, end: number): Uint8Array => bytes.subarray(start, end);
  const reversed = (start: number, end: number): Uint8Array => part(start, end).toReversed();
  return [reversed(0, 4), reversed(4, 6), reversed(6, 8), part(8, 10), part(10, 16)].map(toHex).join('-');
}

/** A name of 36 UTF-16 units up to the first zero; undefined where it is no text. */
function parseLabel(units: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-16le', { fatal: true, ignoreBOM: true }).decode(units);
    return text.replace(/\0[^]*$/, '');
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
