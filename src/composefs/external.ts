import type { Digest } from '../base/digest.ts';
import { digestFromBytes } from '../base/digest.ts';
import { ImageError, IncompatibleImage } from './errors.ts';
import type { InodeHead } from './inode.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { isNamed } from './inode-xattrs.ts';
import * as overlay from './overlay.ts';
import type { Image } from './superblock.ts';

/** What overlayfs's attributes say about a file's data. */
export interface External {
  /** The path of the data in the layers below, with a leading "/" where it is a store's. */
  readonly redirect: RawXattr | undefined;
  readonly digest: Digest | undefined;
}

const trusted = 'trusted.';
const trustedIndex = 4;
const redirectRest = Buffer.from(overlay.redirectName.slice(trusted.length));
const metacopyRest = Buffer.from(overlay.metacopyName.slice(trusted.length));

/** The one attribute of that name; two would let readers disagree on which one counts. */
function findOne(image: Image, xattrs: readonly RawXattr[], rest: Uint8Array): RawXattr | undefined {
  let found: RawXattr | undefined;
  for (const xattr of xattrs) {
    if (!isNamed(image, xattr, trustedIndex, rest)) continue;
    if (found !== undefined)
      throw new ImageError(xattr.nameOffset, 'an inode has an attribute of overlayfs twice');
    found = xattr;
  }
  return found;
}

/** The digest in a metacopy attribute, by the kernel's struct ovl_metacopy; an empty one has none. */
function parseMetacopy({ bytes }: Image, { valueOffset, valueBytes }: RawXattr): Digest | undefined {
  if (valueBytes === 0) return undefined;
  const version = bytes[valueOffset];
  const length = bytes[valueOffset + 1];
  const flags = bytes[valueOffset + 2];
  const algorithm = bytes[valueOffset + 3];
  if (valueBytes < overlay.metacopyHeaderBytes || version !== 0 || length !== valueBytes || flags !== 0) {
    throw new ImageError(valueOffset, 'a metacopy attribute is malformed');
  }
  const digestOffset = valueOffset + overlay.metacopyHeaderBytes;
  const digestBytes = valueBytes - overlay.metacopyHeaderBytes;
  if (digestBytes === 0 && algorithm === 0) return undefined;
  if (algorithm !== overlay.verityAlgorithmSha256) {
    throw new IncompatibleImage(
      valueOffset,
      `a file's digest is of algorithm ${algorithm ?? 0}; only SHA-256 is read`,
    );
  }
  if (digestBytes !== 32) throw new ImageError(valueOffset, "a file's SHA-256 digest does not have 32 bytes");
  return digestFromBytes(bytes.subarray(digestOffset, digestOffset + digestBytes));
}

/** What a file's attributes say about its data; undefined where it is in the image. Throws ImageError, IncompatibleImage. */
export function readExternal(
  image: Image,
  inode: InodeHead,
  xattrs: readonly RawXattr[],
): External | undefined {
  const redirect = findOne(image, xattrs, redirectRest);
  const metacopy = findOne(image, xattrs, metacopyRest);
  if (metacopy === undefined) {
    if (redirect === undefined) return undefined;
    throw new IncompatibleImage(inode.offset, `inode ${inode.nid} is redirected without being a metacopy`);
  }
  return { redirect, digest: parseMetacopy(image, metacopy) };
}

/** A directory of an image must not be redirected: its names would come from another place of the layers. */
export function refuseRedirect(image: Image, inode: InodeHead, xattrs: readonly RawXattr[]): void {
  if (findOne(image, xattrs, redirectRest) === undefined) return;
  throw new IncompatibleImage(inode.offset, `directory ${inode.nid} is redirected elsewhere`);
}
