/** An image of any size, read piece by piece. */
export interface ByteSource {
  /** The image's size in bytes. */
  readonly bytes: number;
  /** The `length` bytes from `offset` on; the caller has made sure that they lie within the image. */
  read(offset: number, length: number): Uint8Array;
}
