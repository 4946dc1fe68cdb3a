/** A disk image is not what may be mounted: `offset` is where in the image, in bytes, `reason` what is wrong there. */
export class DiskImageError extends Error {
  override readonly name = 'DiskImageError';
  readonly offset: number;
  readonly reason: string;

  constructor(offset: number, reason: string) {
    super(`${reason} (at byte ${offset})`);
    this.offset = offset;
    this.reason = reason;
  }
}
