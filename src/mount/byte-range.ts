/** A part of a file, in bytes: a partition of a disk image. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}
