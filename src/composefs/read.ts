import { direntName, dotsOf, readDirents } from './directory.ts';
import { ImageError } from './errors.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { readInode } from './inode.ts';
import { hidesStoreFolder, locateContent, readTarget, readTime, redirectedPath } from './inode-data.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { bytesAt, readXattrs, textAt } from './inode-xattrs.ts';
import { showXattrs } from './shown-xattrs.ts';
import type { Image } from './superblock.ts';
import { openImage } from './superblock.ts';
import type {
  Directory,
  Entry,
  FileContent,
  Inode,
  InodeAttributes,
  NonDirectory,
  RegularFile,
  Tree,
} from './tree.ts';

/** The fields that only the whole tree needs. */
interface InodeDetail {
  readonly attributes: InodeAttributes;
  readonly nlink: number;
  /** The escaped mark of a whiteout was among the attributes. */
  readonly whiteout: boolean;
}

function readDetail(image: Image, inode: InodeHead, raw: readonly RawXattr[]): InodeDetail {
  const { view } = image;
  const { compact, offset } = inode;
  const { shown, whiteout } = showXattrs(image, inode, raw);
  return {
    attributes: {
      mode: inode.mode & 0o7777,
      uid: compact ? view.getUint16(offset + 24, true) : view.getUint32(offset + 24, true),
      gid: compact ? view.getUint16(offset + 26, true) : view.getUint32(offset + 28, true),
      mtime: readTime(image, inode),
      xattrs: shown.map(({ name, valueOffset, valueBytes }) => ({
        name,
        value: bytesAt(image, valueOffset, valueBytes),
      })),
    },
    nlink: compact ? view.getUint16(offset + 6, true) : view.getUint32(offset + 44, true),
    whiteout,
  };
}

function readContent(image: Image, inode: InodeHead, raw: readonly RawXattr[]): FileContent {
  const located = locateContent(image, inode, raw);
  if (located.inline !== undefined) return { kind: 'inline', bytes: located.inline };
  if (located.form !== undefined) return { kind: 'stored', form: located.form };
  const { redirect, digest } = located;
  if (redirect === undefined) return { kind: 'external', path: undefined, digest };
  const [start, end] = redirectedPath(image, redirect);
  return { kind: 'external', path: textAt(image, start, end - start), digest };
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

/** What was read so far. */
interface Walk {
  readonly image: Image;
  /** By inode number; undefined for what is no part of the tree. */
  readonly inodes: Map<number, Inode | undefined>;
  readonly pending: { readonly head: InodeHead; readonly directory: Directory }[];
  /** Bytes of directories and attributes that may still be read: a sound image's do not overlap. */
  bytesLeft: number;
  /** Bytes that may still be copied out of the image. Data that lies in one place is not. */
  copyLeft: number;
}

/** What a tree may have copied of an image that is smaller: inodes may share their data, and attributes. */
const copiedBytesMax = 2 ** 30;
/** What an attribute takes beside its name, in bytes. */
const xattrBytes = 64;

/** Pays for what the inode's part of the tree has copied of the image. */
function spendCopies(walk: Walk, { nid, offset, size, layout }: InodeHead, inode: Inode): void {
  // Content in blocks and a tail is put together.
  if (layout === format.layoutFlatInline && size > format.blockBytes && inode.type === 'file')
    walk.copyLeft -= size;
  for (const { name } of inode.xattrs) walk.copyLeft -= xattrBytes + name.length;
  if (walk.copyLeft < 0)
    throw new ImageError(offset, `inode ${nid} shares too much with others to be read beside them`);
}

function spend(walk: Walk, bytes: number, { nid, offset }: InodeHead): void {
  walk.bytesLeft -= bytes;
  if (walk.bytesLeft < 0)
    throw new ImageError(offset, `inode ${nid} shares data with others that must be its own`);
}

function readNew(walk: Walk, nid: number): Inode | undefined {
  const head = readInode(walk.image, nid);
  if (hidesStoreFolder(walk.image, head)) {
    walk.inodes.set(nid, undefined);
    return undefined;
  }
  spend(walk, head.xattrBytes, head);
  const inode = makeInode(walk.image, head);
  spendCopies(walk, head, inode);
  walk.inodes.set(nid, inode);
  if (inode.type === 'directory') walk.pending.push({ head, directory: inode });
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
 * reads plain EROFS images; what is compressed there, or in chunks, is said to be so and not read. Names and values are views of `bytes` where they can be.
 * Throws ImageError, IncompatibleImage.
 */
export function readTree(bytes: Uint8Array, copyMax: number = copiedBytesMax): Tree {
  const image = openImage(bytes);
  const walk: Walk = {
    image,
    inodes: new Map(),
    pending: [],
    bytesLeft: bytes.length,
    copyLeft: Math.max(copyMax, bytes.length),
  };
  const root = readNew(walk, image.rootNid);
  if (root?.type !== 'directory')
    throw new ImageError(format.superblockOffset + 14, 'the root is not a directory');
  for (const { head, directory } of walk.pending) readEntries(walk, head, directory);
  markLinks(root);
  return { root };
}
