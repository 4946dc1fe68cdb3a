/** An image's bytes are not what they should be: `offset` is where in the image, in bytes. */
export class ImageError extends Error {
  override readonly name: string = 'ImageError';
  readonly offset: number;
  readonly reason: string;

  constructor(offset: number, reason: string) {
    super(`${reason} (at byte ${offset})`);
    this.offset = offset;
    this.reason = reason;
  }
}

/** The image may be whole, but this kind of image is not one that is mounted here; `reason` says what it needs. */
export class IncompatibleImage extends ImageError {
  override readonly name = 'IncompatibleImage';
}

/** A dump is not by the rules of composefs-dump(5); `line` counts from 1, and is 0 where no line is at fault. */
export class DumpError extends Error {
  override readonly name = 'DumpError';
  readonly line: number;
  readonly reason: string;

  constructor(line: number, reason: string) {
    super(`line ${line}: ${reason}`);
    this.line = line;
    this.reason = reason;
  }
}

/** A tree that no composefs image can hold; `path` is where in the tree (a binary string). */
export class TreeError extends Error {
  override readonly name = 'TreeError';
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`);
    this.path = path;
    this.reason = reason;
  }
}
