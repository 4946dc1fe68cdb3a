import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { flatPieces, isFlat } from './inode.ts';
import type { Image } from './superblock.ts';

/** A name in a directory: its bytes in the image, and the number of its inode. */
export interface Dirent {
  readonly nameOffset: number;
  readonly nameBytes: number;
  readonly nid: number;
}

const uint32 = 2 ** 32;
const slash = 0x2f;
const dot = 0x2e;

/** Less than 0 where the bytes of `a` come before those of `b`. */
function compareNames(bytes: Uint8Array, a: Dirent, b: Dirent): number {
  const common = Math.min(a.nameBytes, b.nameBytes);
  for (let index = 0; index < common; index++) {
    const difference = (bytes[a.nameOffset + index] ?? 0) - (bytes[b.nameOffset + index] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.nameBytes - b.nameBytes;
}

function checkName(bytes: Uint8Array, { nameOffset, nameBytes }: Dirent): void {
  if (nameBytes < 1 || nameBytes > format.nameBytesMax) {
    throw new ImageError(nameOffset, `a name has ${nameBytes} bytes; 1 to 255 are allowed`);
  }
  for (let offset = nameOffset; offset < nameOffset + nameBytes; offset++) {
    if (bytes[offset] === 0 || bytes[offset] === slash) {
      throw new ImageError(offset, 'a name holds "/" or a zero byte');
    }
  }
}

/** The last name of a block ends at a zero byte or with the block. */
function lastNameEnd(bytes: Uint8Array, start: number, end: number): number {
  const zero = bytes.subarray(start, Math.min(end, start + format.nameBytesMax + 1)).indexOf(0);
  return zero < 0 ? end : start + zero;
}

function* readBlock(
  image: Image,
  block: number,
  blockEnd: number,
  before: Dirent | undefined,
): Generator<Dirent, Dirent | undefined> {
  const { bytes, view } = image;
  const length = blockEnd - block;
  const first = length < format.direntBytes ? 0 : view.getUint16(block + 8, true);
  if (first < format.direntBytes || first % format.direntBytes !== 0 || first > length) {
    throw new ImageError(block + 8, "a directory's block has a bad count of names");
  }
  let nameOffset = block + first;
  let previous = before;
  for (let entry = block; entry < block + first; entry += format.direntBytes) {
    const isLast = entry + format.direntBytes === block + first;
    const nameEnd = isLast
      ? lastNameEnd(bytes, nameOffset, blockEnd)
      : block + view.getUint16(entry + format.direntBytes + 8, true);
    if (nameEnd > blockEnd) throw new ImageError(entry, 'a name lies beyond the end of its block');
    const nid = view.getUint32(entry + 4, true) * uint32 + view.getUint32(entry, true);
    const dirent = { nameOffset, nameBytes: nameEnd - nameOffset, nid };
    checkName(bytes, dirent);
    // The kernel searches by halves: a name out of order may be listed and not be found, or the other way round.
    if (previous !== undefined && compareNames(bytes, previous, dirent) >= 0) {
      throw new ImageError(nameOffset, "a directory's names are not in order");
    }
    yield dirent;
    previous = dirent;
    nameOffset = nameEnd;
  }
  return previous;
}

/**
 * The entries of a directory, `.` and `..` among them, in order and each once. One after another: a directory may be as
 * large as the image, and have many millions. Throws ImageError, IncompatibleImage.
 */
export function* readDirents(image: Image, inode: InodeHead): Generator<Dirent, void> {
  if (!isFlat(inode)) {
    throw new IncompatibleImage(
      inode.offset,
      `directory ${inode.nid} is compressed or in chunks, which is not read here`,
    );
  }
  let previous: Dirent | undefined;
  for (const { offset, bytes } of flatPieces(image, inode)) {
    const end = offset + bytes;
    for (let block = offset; block < end; block += format.blockBytes) {
      previous = yield* readBlock(image, block, Math.min(block + format.blockBytes, end), previous);
    }
  }
}

/** Whether the entry is `.` (1) or `..` (2); 0 for every other. */
export function dotsOf(bytes: Uint8Array, { nameOffset, nameBytes }: Dirent): 0 | 1 | 2 {
  if (nameBytes > 2 || bytes[nameOffset] !== dot) return 0;
  if (nameBytes === 1) return 1;
  return bytes[nameOffset + 1] === dot ? 2 : 0;
}

/** The name as a binary string. */
export function direntName({ bytes }: Image, { nameOffset, nameBytes }: Dirent): string {
  return bytes.toString('latin1', nameOffset, nameOffset + nameBytes);
}
