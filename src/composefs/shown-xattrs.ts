import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { textAt } from './inode-xattrs.ts';
import { longPrefix } from './long-prefixes.ts';
import * as overlay from './overlay.ts';
import type { Image } from './superblock.ts';

/** The kernel's own limit for one attribute, taken for all of an inode together, as composefs-info does; in bytes. */
const xattrsBytesMax = 65535;

/** An extended attribute as it shows once the image is mounted; its value by position. */
export interface ShownXattr {
  readonly name: string;
  readonly valueOffset: number;
  readonly valueBytes: number;
}

/** What shows of an inode's attributes. */
export interface ShownXattrs {
  readonly shown: readonly ShownXattr[];
  /** The escaped mark of a whiteout was among the attributes. */
  readonly whiteout: boolean;
}

/** Attributes that the writer adds and that are no part of the tree. */
const addedNames: ReadonlySet<string> = new Set([
  overlay.escapedWhiteoutsName,
  overlay.userWhiteoutName,
  overlay.userWhiteoutsName,
]);

const trustedIndex = 4;
const overlayRest = Buffer.from(overlay.overlayPrefix.slice('trusted.'.length));

function fullName(image: Image, xattr: RawXattr): string {
  const prefix = prefixOf(image, xattr);
  if (prefix === undefined) {
    throw new IncompatibleImage(
      xattr.nameOffset,
      `an extended attribute has the unknown prefix ${xattr.prefix}`,
    );
  }
  return prefix + textAt(image, xattr.nameOffset, xattr.nameBytes);
}

function prefixOf(image: Image, { prefix, nameOffset }: RawXattr): string | undefined {
  if (prefix === 0) return '';
  if (prefix >= format.longPrefixFirst && image.fileSystem === 'erofs')
    return longPrefix(image, prefix, nameOffset);
  return format.xattrPrefixes.find(({ index }) => index === prefix)?.prefix;
}

/** Whether `trusted.` at `offset` would go on with "overlay.". */
function isOverlayAt({ bytes }: Image, offset: number): boolean {
  for (let index = 0; index < overlayRest.length; index++)
    if (bytes[offset + index] !== overlayRest[index]) return false;
  return true;
}

/** Whether overlayfs keeps the attribute to itself. By bytes: nearly every file of an image has two such. */
function isOverlaysOwn(image: Image, { prefix, nameOffset, nameBytes }: RawXattr): boolean {
  const { length } = overlayRest;
  if (prefix !== trustedIndex || nameBytes < length || !isOverlayAt(image, nameOffset)) return false;
  return nameBytes < 2 * length || !isOverlayAt(image, nameOffset + length);
}

/** The name that shows in the mounted overlayfs: what was escaped is not any more. */
function unescaped(name: string): string {
  if (!name.startsWith(overlay.escapedPrefix)) return name;
  return overlay.overlayPrefix + name.slice(overlay.escapedPrefix.length);
}

/**
 * What shows of the attributes `raw` of an inode: in a composefs image not what is there for overlayfs alone. Throws
 * ImageError for what is twice or too long, IncompatibleImage for names that are not understood.
 */
export function showXattrs(image: Image, inode: InodeHead, raw: readonly RawXattr[]): ShownXattrs {
  const composefs = image.fileSystem === 'composefs';
  const isFile = (inode.mode & format.modeTypeMask) === format.modeFile;
  const shown: ShownXattr[] = [];
  // Made for the first that shows: most inodes have none. Not looked for one by one: there may be many thousands.
  let names: Set<string> | undefined;
  let whiteout = false;
  let bytes = 0;
  for (const xattr of raw) {
    if (composefs && isOverlaysOwn(image, xattr)) continue;
    const stored = fullName(image, xattr);
    if (composefs && isFile && stored === overlay.escapedWhiteoutName) {
      whiteout = true;
      continue;
    }
    if (composefs && addedNames.has(stored)) continue;
    const name = composefs ? unescaped(stored) : stored;
    names ??= new Set();
    if (names.has(name)) throw new ImageError(xattr.nameOffset, 'an inode has the same attribute twice');
    names.add(name);
    shown.push({ name, valueOffset: xattr.valueOffset, valueBytes: xattr.valueBytes });
    bytes += name.length + xattr.valueBytes;
    if (bytes > xattrsBytesMax)
      throw new ImageError(inode.offset, `inode ${inode.nid} has too many extended attributes`);
  }
  return { shown, whiteout };
}
