import { direntName, dotsOf, readDirents } from './directory.ts';
import { ImageError, IncompatibleImage } from './errors.ts';
import { readExternal } from './external.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { flatPieces, isFlat, readInode } from './inode.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { bytesAt, readXattrs, textAt } from './inode-xattrs.ts';
import * as overlay from './overlay.ts';
import type { Image } from './superblock.ts';
import { openImage } from './superblock.ts';
import { inlineContentBytesMax, targetFault } from './tree-check.ts';
import type {
  Directory,
  Entry,
  FileContent,
  Inode,
  InodeAttributes,
  NonDirectory,
  RegularFile,
  Timestamp,
  Tree,
  Xattr,
} from './tree.ts';

/** The kernel's own limit for one attribute, taken for all of an inode together, as composefs-info does; in bytes. */
const xattrsBytesMax = 65535;

/** Attributes that the writer adds and that are no part of the tree. */
const addedNames: ReadonlySet<string> = new Set([
  overlay.escapedWhiteoutsName,
  overlay.userWhiteoutName,
  overlay.userWhiteoutsName,
]);

/** The fields that only the whole tree needs. */
interface InodeDetail {
  readonly attributes: InodeAttributes;
  readonly nlink: number;
  /** The escaped mark of a whiteout was among the attributes. */
  readonly whiteout: boolean;
}

function readTime(image: Image, { compact, offset }: InodeHead): Timestamp {
  const seconds = compact ? image.buildSeconds : image.view.getBigInt64(offset + 32, true);
  const nanoseconds = compact ? image.buildNanoseconds : image.view.getUint32(offset + 40, true);
  if (nanoseconds > 999_999_999)
    throw new ImageError(offset, 'a time has a thousand million nanoseconds or more');
  return { seconds, nanoseconds };
}

function fullName(image: Image, xattr: RawXattr): string {
  const prefix =
    xattr.prefix === 0 ? '' : format.xattrPrefixes.find(({ index }) => index === xattr.prefix)?.prefix;
  if (prefix === undefined) {
    throw new IncompatibleImage(
      xattr.nameOffset,
      `an extended attribute has the unknown prefix ${xattr.prefix}`,
    );
  }
  return prefix + textAt(image, xattr.nameOffset, xattr.nameBytes);
}

/** The name that shows in the mounted overlayfs, or undefined for what the overlayfs keeps to itself. */
function shownName(name: string): string | undefined {
  if (!name.startsWith(overlay.overlayPrefix)) return name;
  if (!name.startsWith(overlay.escapedPrefix)) return undefined;
  return overlay.overlayPrefix + name.slice(overlay.escapedPrefix.length);
}

function readDetail(image: Image, inode: InodeHead, raw: readonly RawXattr[]): InodeDetail {
  const { view } = image;
  const { compact, offset } = inode;
  const composefs = image.fileSystem === 'composefs';
  const byName = new Map<string, Xattr>();
  let whiteout = false;
  let xattrBytes = 0;
  for (const xattr of raw) {
    const name = fullName(image, xattr);
    const isMark =
      name === overlay.escapedWhiteoutName && (inode.mode & format.modeTypeMask) === format.modeFile;
    if (composefs && isMark) whiteout = true;
    const shown = composefs ? (isMark || addedNames.has(name) ? undefined : shownName(name)) : name;
    if (shown === undefined) continue;
    if (byName.has(shown)) throw new ImageError(xattr.nameOffset, 'an inode has the same attribute twice');
    byName.set(shown, { name: shown, value: bytesAt(image, xattr.valueOffset, xattr.valueBytes) });
    xattrBytes += shown.length + xattr.valueBytes;
  }
  if (xattrBytes > xattrsBytesMax)
    throw new ImageError(offset, `inode ${inode.nid} has too many extended attributes`);
  return {
    attributes: {
      mode: inode.mode & 0o7777,
      uid: compact ? view.getUint16(offset + 24, true) : view.getUint32(offset + 24, true),
      gid: compact ? view.getUint16(offset + 26, true) : view.getUint32(offset + 28, true),
      mtime: readTime(image, inode),
      xattrs: [...byName.values()],
    },
    nlink: compact ? view.getUint16(offset + 6, true) : view.getUint32(offset + 44, true),
    whiteout,
  };
}

/** The bytes of an inode with a flat layout; copied only where they lie in two places. */
function flatBytes(image: Image, inode: InodeHead): Uint8Array {
  const pieces = flatPieces(image, inode).map(({ offset, bytes }) => bytesAt(image, offset, bytes));
  return pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Buffer.concat(pieces);
}

function readTarget(image: Image, inode: InodeHead): string {
  if (!isFlat(inode)) throw new IncompatibleImage(inode.offset, `symbolic link ${inode.nid} is compressed`);
  const target = flatBytes(image, inode).subarray(0, format.targetBytesMax + 1);
  const text = Buffer.from(target).toString('latin1');
  const fault = targetFault(text);
  if (fault !== undefined) throw new ImageError(inode.offset, fault);
  return text;
}

function readContent(image: Image, inode: InodeHead, raw: readonly RawXattr[]): FileContent {
  if (inode.size === 0) return { kind: 'inline', bytes: new Uint8Array(0) };
  const composefs = image.fileSystem === 'composefs';
  const external = composefs ? readExternal(image, inode, raw) : undefined;
  if (isFlat(inode) && external === undefined) {
    if (composefs && inode.size > inlineContentBytesMax) {
      throw new ImageError(inode.offset, `inode ${inode.nid} has more content than composefs allows`);
    }
    return { kind: 'inline', bytes: flatBytes(image, inode) };
  }
  if (!composefs)
    throw new IncompatibleImage(inode.offset, `the data of inode ${inode.nid} is compressed or in chunks`);
  if (inode.size > Number.MAX_SAFE_INTEGER + 1)
    throw new ImageError(inode.offset, `inode ${inode.nid} is too big`);
  const { redirect, digest } = external ?? {};
  if (redirect === undefined) return { kind: 'external', path: undefined, digest };
  const path = textAt(image, redirect.valueOffset, redirect.valueBytes);
  return { kind: 'external', path: path.startsWith('/') ? path.slice(1) : path, digest };
}

function readFile(
  image: Image,
  inode: InodeHead,
  raw: readonly RawXattr[],
  detail: InodeDetail,
): RegularFile {
  const content = readContent(image, inode, raw);
  return { ...detail.attributes, type: 'file', size: inode.size, content, nlink: detail.nlink };
}

function makeInode(image: Image, inode: InodeHead): Inode {
  const raw = readXattrs(image, inode);
  const detail = readDetail(image, inode, raw);
  const { attributes, nlink } = detail;
  switch (inode.mode & format.modeTypeMask) {
    case format.modeDirectory:
      return { ...attributes, type: 'directory', entries: new Map() };
    case format.modeSymlink:
      return { ...attributes, type: 'symlink', target: readTarget(image, inode), nlink };
    case format.modeCharacter:
      return { ...attributes, type: 'character', rdev: inode.union, nlink };
    case format.modeBlock:
      return { ...attributes, type: 'block', rdev: inode.union, nlink };
    case format.modeFifo:
      return { ...attributes, type: 'fifo', nlink };
    case format.modeSocket:
      return { ...attributes, type: 'socket', nlink };
    default:
      return detail.whiteout
        ? { ...attributes, type: 'character', rdev: 0, nlink }
        : readFile(image, inode, raw, detail);
  }
}

/** Give each inode one name, the first depth first, and make links of all further ones. */
function markLinks(root: Directory): void {
  const seen = new Set<NonDirectory>();
  const stack: { directory: Directory; name: string; entry: Entry }[] = [];
  const open = (directory: Directory): void => {
    for (const [name, entry] of [...directory.entries].reverse()) stack.push({ directory, name, entry });
  };
  open(root);
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { directory, name, entry } = next;
    if (entry.type === 'directory') open(entry);
    else if (entry.type !== 'link' && seen.has(entry))
      directory.entries.set(name, { type: 'link', target: entry });
    else if (entry.type !== 'link') seen.add(entry);
  }
}

/** Whiteouts that are not escaped belong to the overlayfs: they hide the store's folders. */
function isOverlaysOwn({ fileSystem }: Image, { mode, union }: InodeHead): boolean {
  return fileSystem === 'composefs' && (mode & format.modeTypeMask) === format.modeCharacter && union === 0;
}

/** What was read so far. */
interface Walk {
  readonly image: Image;
  /** By inode number; undefined for what is no part of the tree. */
  readonly inodes: Map<number, Inode | undefined>;
  readonly pending: { readonly head: InodeHead; readonly directory: Directory }[];
  /** Bytes of directories and attributes that may still be read: a sound image's do not overlap. */
  bytesLeft: number;
}

function spend(walk: Walk, bytes: number, { nid, offset }: InodeHead): void {
  walk.bytesLeft -= bytes;
  if (walk.bytesLeft < 0)
    throw new ImageError(offset, `inode ${nid} shares data with others that must be its own`);
}

function readNew(walk: Walk, nid: number): Inode | undefined {
  const head = readInode(walk.image, nid);
  spend(walk, head.xattrBytes, head);
  const inode = isOverlaysOwn(walk.image, head) ? undefined : makeInode(walk.image, head);
  walk.inodes.set(nid, inode);
  if (inode?.type === 'directory') walk.pending.push({ head, directory: inode });
  return inode;
}

function readEntries(walk: Walk, head: InodeHead, directory: Directory): void {
  const { image, inodes } = walk;
  spend(walk, head.size, head);
  for (const dirent of readDirents(image, head)) {
    if (dotsOf(image.bytes, dirent) !== 0) continue;
    const known = inodes.get(dirent.nid);
    if (known?.type === 'directory') {
      throw new ImageError(dirent.nameOffset, `directory ${dirent.nid} is reached by two ways`);
    }
    const inode = inodes.has(dirent.nid) ? known : readNew(walk, dirent.nid);
    if (inode !== undefined) directory.entries.set(direntName(image, dirent), inode);
  }
}

/**
 * The whole tree of a composefs image, as it shows once mounted: what the image adds for overlayfs is left out. Also
 * reads EROFS images without compression and chunks. Names and values are views of `bytes` where they can be.
 * Throws ImageError, IncompatibleImage.
 */
export function readTree(bytes: Uint8Array): Tree {
  const image = openImage(bytes);
  const walk: Walk = { image, inodes: new Map(), pending: [], bytesLeft: bytes.length };
  const root = readNew(walk, image.rootNid);
  if (root?.type !== 'directory')
    throw new ImageError(format.superblockOffset + 14, 'the root is not a directory');
  for (const { head, directory } of walk.pending) readEntries(walk, head, directory);
  markLinks(root);
  return { root };
}
