import { ImageError, IncompatibleImage } from './errors.ts';
import type { External } from './external.ts';
import { readExternal } from './external.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { flatPieces, isFlat } from './inode.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { bytesAt } from './inode-xattrs.ts';
import type { Image } from './superblock.ts';
import { inlineContentBytesMax, targetFault } from './tree-check.ts';
import type { StoredForm, Timestamp } from './tree.ts';

const slash = 0x2f;

/** When the inode was changed last; compact inodes take the image's time. Throws ImageError. */
export function readTime(image: Image, { compact, offset }: InodeHead): Timestamp {
  const seconds = compact ? image.buildSeconds : image.view.getBigInt64(offset + 32, true);
  const nanoseconds = compact ? image.buildNanoseconds : image.view.getUint32(offset + 40, true);
  if (nanoseconds > 999_999_999)
    throw new ImageError(offset, 'a time has a thousand million nanoseconds or more');
  return { seconds, nanoseconds };
}

/** The bytes of an inode with a flat layout; copied only where they lie in two places. */
function flatBytes(image: Image, inode: InodeHead): Uint8Array {
  const pieces = flatPieces(image, inode).map(({ offset, bytes }) => bytesAt(image, offset, bytes));
  return pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Buffer.concat(pieces);
}

/** The target of a symbolic link, a binary string. Throws ImageError, IncompatibleImage. */
export function readTarget(image: Image, inode: InodeHead): string {
  if (!isFlat(inode)) throw new IncompatibleImage(inode.offset, `symbolic link ${inode.nid} is compressed`);
  const target = flatBytes(image, inode).subarray(0, format.targetBytesMax + 1);
  const text = Buffer.from(target).toString('latin1');
  const fault = targetFault(text);
  if (fault !== undefined) throw new ImageError(inode.offset, fault);
  return text;
}

/**
 * Where a file's bytes are: in the image, or in an object that the image names by position, or names not at all; or in the image in
 * a form that has to be put together first.
 */
export type LocatedContent =
  | {
      readonly inline: Uint8Array;
      readonly form?: undefined;
      readonly redirect?: undefined;
      readonly digest?: undefined;
    }
  | ({ readonly inline?: undefined; readonly form?: undefined } & External)
  | {
      readonly form: StoredForm;
      readonly inline?: undefined;
      readonly redirect?: undefined;
      readonly digest?: undefined;
    };

const empty = new Uint8Array(0);
const zeros: External = { redirect: undefined, digest: undefined };

/** Where a file's bytes are; `raw` are its attributes. Throws ImageError, IncompatibleImage. */
export function locateContent(image: Image, inode: InodeHead, raw: readonly RawXattr[]): LocatedContent {
  if (inode.size === 0) return { inline: empty };
  const composefs = image.fileSystem === 'composefs';
  const external = composefs ? readExternal(image, inode, raw) : undefined;
  if (isFlat(inode) && external === undefined) {
    if (composefs && inode.size > inlineContentBytesMax) {
      throw new ImageError(inode.offset, `inode ${inode.nid} has more content than composefs allows`);
    }
    return { inline: flatBytes(image, inode) };
  }
  if (!composefs) return { form: storedForm(inode) };
  if (inode.size > Number.MAX_SAFE_INTEGER + 1)
    throw new ImageError(inode.offset, `inode ${inode.nid} is too big`);
  return external ?? zeros;
}

function storedForm({ nid, offset, layout }: InodeHead): StoredForm {
  if (layout === format.layoutChunkBased) return 'chunks';
  if (layout === format.layoutCompressedFull || layout === format.layoutCompressedCompact)
    return 'compressed';
  throw new IncompatibleImage(offset, `inode ${nid} has the unknown data layout ${layout}`);
}

/** Where the path in a redirect begins and ends: a store's has a leading "/" that is no part of an object's path. */
export function redirectedPath({ bytes }: Image, { valueOffset, valueBytes }: RawXattr): [number, number] {
  return [
    bytes[valueOffset] === slash && valueBytes > 0 ? valueOffset + 1 : valueOffset,
    valueOffset + valueBytes,
  ];
}

/** Whiteouts that are not escaped belong to the overlayfs: they hide the store's folders. */
export function hidesStoreFolder({ fileSystem }: Image, { mode, union }: InodeHead): boolean {
  return fileSystem === 'composefs' && (mode & format.modeTypeMask) === format.modeCharacter && union === 0;
}
