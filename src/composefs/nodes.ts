import type { Digest } from '../base/digest.ts';
import { digestHex } from '../base/digest.ts';
import { TreeError } from './errors.ts';
import * as format from './format.ts';
import { typeBits } from './modes.ts';
import * as overlay from './overlay.ts';
import type { Directory, Entry, Inode, RegularFile, Timestamp, Tree } from './tree.ts';
import { checkInode, checkName } from './tree-check.ts';
import type { ImageXattr, XattrTable } from './xattrs.ts';

/** A name in a directory that is to be written, `.` and `..` among them. */
export interface NodeEntry {
  readonly name: string;
  readonly node: ImageNode;
  /** The node's place in the image belongs to another name. */
  readonly link: boolean;
}

/** An inode as the image holds it: overlayfs's attributes added, the tree's own escaped. */
export interface ImageNode {
  /** st_mode, type and permissions. */
  readonly mode: number;
  nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly mtime: Timestamp;
  /** The size of a file or symbolic link; 0 for everything else. */
  readonly size: number;
  /** What follows the inode: a file's inline bytes or a link's target. */
  readonly bytes: Uint8Array | undefined;
  readonly xattrs: ImageXattr[];
  /** A directory's names, sorted by bytes. */
  entries: readonly NodeEntry[];
  /** Its number, counted from 0 in the order in which inodes are written. */
  index: number;
}

const opaqueMark = 'x';

function isWhiteout(inode: Inode): boolean {
  return inode.type === 'character' && inode.rdev === 0;
}

/** The tree's own attributes, those of overlayfs escaped so that they show again once the image is mounted. */
function escapedXattrs(table: XattrTable, inode: Inode): ImageXattr[] {
  return inode.xattrs.map(({ name, value }) =>
    table.intern(
      name.startsWith(overlay.overlayPrefix)
        ? overlay.escapedPrefix + name.slice(overlay.overlayPrefix.length)
        : name,
      Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1'),
    ),
  );
}

/** Adds an attribute; one of that name that is there already gives way. */
function setXattr(xattrs: ImageXattr[], xattr: ImageXattr): void {
  const index = xattrs.findIndex(({ key }) => key === xattr.key);
  if (index < 0) xattrs.push(xattr);
  else xattrs[index] = xattr;
}

/** The kernel's struct ovl_metacopy for a digest of SHA-256, but for the digest's bytes. */
const metacopy = Buffer.alloc(overlay.metacopyHeaderBytes + 32);
metacopy.writeUInt8(metacopy.length, 1);
metacopy.writeUInt8(overlay.verityAlgorithmSha256, 3);

/** The value of the metacopy attribute, a binary string; empty where the digest is not known. */
function metacopyValue(digest: Digest | undefined): string {
  if (digest === undefined) return '';
  metacopy.write(digestHex(digest), overlay.metacopyHeaderBytes, 'hex');
  return metacopy.toString('latin1');
}

/** The attributes of a file, with those by which overlayfs finds its data. */
function fileXattrs(table: XattrTable, file: RegularFile): ImageXattr[] {
  const own = escapedXattrs(table, file);
  if (file.size === 0 || file.content.kind !== 'external') return own;
  const { path, digest } = file.content;
  const external = [table.intern(overlay.metacopyName, metacopyValue(digest))];
  if (path !== undefined && path !== '') external.push(table.intern(overlay.redirectName, `/${path}`));
  return own.length === 0 ? external : [...own, ...external];
}

function inodeBytes(inode: Inode): Uint8Array | undefined {
  if (inode.type === 'symlink') return Buffer.from(inode.target, 'latin1');
  if (inode.type === 'file' && inode.content.kind === 'inline') return inode.content.bytes;
  return undefined;
}

function makeNode(table: XattrTable, inode: Inode): ImageNode {
  const xattrs = inode.type === 'file' ? fileXattrs(table, inode) : escapedXattrs(table, inode);
  // A whiteout in the tree must not take effect in the overlayfs that mounts the image.
  const whiteout = isWhiteout(inode);
  if (whiteout) {
    setXattr(xattrs, table.intern(overlay.escapedWhiteoutName, ''));
    setXattr(xattrs, table.intern(overlay.userWhiteoutName, ''));
  }
  const bytes = inodeBytes(inode);
  return {
    mode: (whiteout ? format.modeFile : typeBits[inode.type]) | inode.mode,
    nlink: inode.type === 'directory' ? 2 : inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    rdev: inode.type === 'character' || inode.type === 'block' ? inode.rdev : 0,
    mtime: inode.mtime,
    size: inode.type === 'file' ? inode.size : inode.type === 'symlink' ? inode.target.length : 0,
    bytes,
    xattrs,
    entries: noEntries,
    index: 0,
  };
}

const noEntries: readonly NodeEntry[] = [];

function makeStoreWhiteout(root: ImageNode): ImageNode {
  const selinux = root.xattrs.find(({ key }) => key.name === 'security.selinux');
  return {
    mode: format.modeCharacter | 0o644,
    nlink: 1,
    uid: root.uid,
    gid: root.gid,
    rdev: 0,
    mtime: root.mtime,
    size: 0,
    bytes: undefined,
    xattrs: selinux === undefined ? [] : [selinux],
    entries: noEntries,
    index: 0,
  };
}

function markWhiteouts({ formatVersion, table }: Walk, { xattrs }: ImageNode): void {
  setXattr(xattrs, table.intern(overlay.escapedWhiteoutsName, ''));
  setXattr(xattrs, table.intern(overlay.userWhiteoutsName, ''));
  if (formatVersion >= 1) {
    setXattr(xattrs, table.intern(overlay.escapedOpaqueName, opaqueMark));
    setXattr(xattrs, table.intern(overlay.userOpaqueName, opaqueMark));
  }
}

/** What is known while the tree is walked. */
interface Walk {
  readonly table: XattrTable;
  readonly formatVersion: number;
  readonly nodeOf: Map<Inode, ImageNode>;
  readonly directories: { directory: Directory; node: ImageNode; parent: ImageNode; path: string }[];
  readonly links: { entries: NodeEntry[]; name: string; target: Inode; path: string }[];
}

function byName(a: NodeEntry, b: NodeEntry): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/** Make the node of an inode that is reached for the first time. */
function addInode(walk: Walk, inode: Inode, parent: ImageNode | undefined, path: string): ImageNode {
  checkInode(inode, path);
  const node = makeNode(walk.table, inode);
  walk.nodeOf.set(inode, node);
  if (inode.type === 'directory') {
    if (parent !== undefined) parent.nlink++;
    walk.directories.push({ directory: inode, node, parent: parent ?? node, path });
  }
  if (parent !== undefined && isWhiteout(inode)) markWhiteouts(walk, parent);
  return node;
}

/** The names of a directory; hard links wait until every inode has its node. */
function listEntries(walk: Walk, directory: Directory, node: ImageNode, path: string): NodeEntry[] {
  const entries: NodeEntry[] = [];
  for (const [name, entry] of directory.entries) {
    checkName(name, path);
    const childPath = `${path}/${name}`;
    const target = entry.type === 'link' ? entry.target : entry;
    if (entry.type !== 'link' && !walk.nodeOf.has(entry)) {
      entries.push({ name, node: addInode(walk, entry, node, childPath), link: false });
    } else {
      if (target.type === 'directory') throw new TreeError(childPath, 'a directory cannot have two names');
      walk.links.push({ entries, name, target, path: childPath });
    }
  }
  return entries;
}

/** Whiteouts in the root hide the folders of the object store from whoever looks at the mounted image. */
function addStoreWhiteouts(root: ImageNode, entries: NodeEntry[], taken: ReadonlyMap<string, Entry>): void {
  for (const name of overlay.storeFolderNames) {
    if (!taken.has(name)) entries.push({ name, node: makeStoreWhiteout(root), link: false });
  }
}

function breadthFirst(root: ImageNode): ImageNode[] {
  const order = [root];
  for (const { entries } of order) {
    for (const { link, node } of entries) if (!link) node.index = order.push(node) - 1;
  }
  return order;
}

/**
 * The inodes that an image of `tree` holds, in the order of their numbers: breadth first, each directory's names
 * sorted by bytes; their attributes are in `table`. Throws TreeError for what no image can hold.
 */
export function makeNodes(tree: Tree, formatVersion: number, table: XattrTable): ImageNode[] {
  const walk: Walk = { table, formatVersion, nodeOf: new Map(), directories: [], links: [] };
  const root = addInode(walk, tree.root, undefined, '/');
  const lists: { node: ImageNode; entries: NodeEntry[] }[] = [];
  // The list grows while it is walked: breadth first, without a stack that a deep tree could exhaust.
  for (const { directory, node, parent, path } of walk.directories) {
    const entries = listEntries(walk, directory, node, node === root ? '' : path);
    entries.push({ name: '.', node, link: true }, { name: '..', node: parent, link: true });
    lists.push({ node, entries });
  }
  for (const { entries, name, target, path } of walk.links) {
    const node = walk.nodeOf.get(target);
    if (node === undefined) throw new TreeError(path, 'is a hard link to an inode outside the tree');
    entries.push({ name, node, link: true });
  }
  for (const { node, entries } of lists) {
    if (node === root) addStoreWhiteouts(root, entries, tree.root.entries);
    node.entries = entries.sort(byName);
  }
  setXattr(root.xattrs, table.intern(overlay.opaqueName, 'y'));
  return breadthFirst(root);
}

/** Whether the tree holds a whiteout of its own, which only format version 1 marks for newer kernels. */
export function holdsWhiteout(tree: Tree): boolean {
  const directories: Directory[] = [tree.root];
  for (const directory of directories) {
    for (const entry of directory.entries.values()) {
      if (entry.type === 'directory') directories.push(entry);
      else if (entry.type === 'character' && entry.rdev === 0) return true;
    }
  }
  return false;
}
