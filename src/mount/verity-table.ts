import type { ByteRange } from './byte-range.ts';

/** What dm-verity is to check data by; see VerityTree of src/ddi for what the fields mean. */
export interface VerityTable {
  readonly dataBlockBytes: number;
  readonly hashBlockBytes: number;
  readonly dataBlocks: number;
  readonly hashStartBlock: number;
  /** Lower-case hexadecimal, as the salt, which may be empty. */
  readonly rootHash: string;
  readonly salt: string;
}

/** The hashes of a filesystem, in another part of the file. */
export interface VerityHashes {
  readonly range: ByteRange;
  readonly table: VerityTable;
}
