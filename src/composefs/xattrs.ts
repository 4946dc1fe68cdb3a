import { TreeError } from './errors.ts';
import * as format from './format.ts';
import type { ImageNode } from './nodes.ts';
import { xxh32 } from './xxhash.ts';

/** A name of attributes: the prefix by number, the rest, and its bit in an inode's filter of names. */
interface XattrName {
  readonly name: string;
  readonly prefix: number;
  readonly rest: string;
  readonly filterBit: number;
  /** The attributes of this name, by value. */
  readonly byValue: Map<string, EncodedXattr>;
}

/** An attribute, once for all inodes that have it. */
interface EncodedXattr {
  readonly key: XattrName;
  readonly value: string;
  uses: number;
  /** Bytes from the start of the shared area; undefined while it stands in its inodes. */
  sharedOffset: number | undefined;
}

/** The attributes of one inode as they are written: positions of shared ones, then the others in full. */
export interface InodeXattrs {
  readonly filter: number;
  readonly shared: readonly EncodedXattr[];
  readonly own: readonly EncodedXattr[];
  /** How much of the inode they take, in bytes; 0 without attributes. */
  readonly bytes: number;
}

/** The attributes of all inodes, by position as in the list of nodes, and the area of those that several have. */
export interface XattrTables {
  readonly inodes: readonly InodeXattrs[];
  readonly shared: readonly EncodedXattr[];
  readonly sharedBytes: number;
}

/** An inode refers to at most this many shared attributes; the rest stand in it. */
const sharedPerInodeMax = 128;
const icountMax = 65535;

const none: InodeXattrs = { filter: 0, shared: [], own: [], bytes: 0 };

function makeName(name: string): XattrName {
  // composefs writes attributes of lustre with their whole name.
  const known = format.xattrPrefixes.find(({ prefix }) => prefix !== 'lustre.' && name.startsWith(prefix));
  const prefix = known?.index ?? 0;
  const rest = name.slice(known?.prefix.length ?? 0);
  const filterBit = xxh32(Buffer.from(rest, 'latin1'), format.xattrFilterSeed + prefix) % 32;
  return { name, prefix, rest, filterBit, byValue: new Map() };
}

/** What an attribute takes in the image, in bytes. */
function encodedBytes({ key, value }: EncodedXattr): number {
  return format.roundUp(format.xattrEntryBytes + key.rest.length + value.length, 4);
}

/** Writes the attributes one after another from `offset` on. */
export function writeEntries(target: Buffer, xattrs: readonly EncodedXattr[], offset: number): void {
  let at = offset;
  for (const xattr of xattrs) {
    const { key, value } = xattr;
    target.writeUInt8(key.rest.length, at);
    target.writeUInt8(key.prefix, at + 1);
    target.writeUInt16LE(value.length, at + 2);
    target.write(key.rest, at + format.xattrEntryBytes, 'latin1');
    target.write(value, at + format.xattrEntryBytes + key.rest.length, 'latin1');
    at += encodedBytes(xattr);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** mkcomposefs's order of shared attributes: last name first, then longest value first, then greatest value first. */
function sharedOrder(a: EncodedXattr, b: EncodedXattr): number {
  return (
    compareText(b.key.name, a.key.name) || b.value.length - a.value.length || compareText(b.value, a.value)
  );
}

function layOut(xattrs: readonly EncodedXattr[]): InodeXattrs {
  if (xattrs.length === 0) return none;
  let used = 0;
  let bytes = format.xattrHeaderBytes;
  const shared: EncodedXattr[] = [];
  const own: EncodedXattr[] = [];
  for (const xattr of xattrs) {
    used |= 1 << xattr.key.filterBit;
    const isShared = xattr.sharedOffset !== undefined && shared.length < sharedPerInodeMax;
    (isShared ? shared : own).push(xattr);
    bytes += isShared ? 4 : encodedBytes(xattr);
  }
  return { filter: ~used >>> 0, shared, own, bytes };
}

/** The attribute, counted once more. */
function encode(names: Map<string, XattrName>, name: string, value: string): EncodedXattr {
  let key = names.get(name);
  if (key === undefined) names.set(name, (key = makeName(name)));
  let encoded = key.byValue.get(value);
  if (encoded === undefined)
    key.byValue.set(value, (encoded = { key, value, uses: 0, sharedOffset: undefined }));
  encoded.uses++;
  return encoded;
}

/** Lay out the extended attributes of all inodes. Throws TreeError where an inode has too many. */
export function makeXattrTables(nodes: readonly ImageNode[]): XattrTables {
  const names = new Map<string, XattrName>();
  const perNode = nodes.map(({ xattrs }) =>
    xattrs
      .map(({ name, value }) => encode(names, name, value))
      .sort((a, b) => compareText(a.key.name, b.key.name)),
  );
  const shared: EncodedXattr[] = [];
  for (const { byValue } of names.values())
    for (const xattr of byValue.values()) if (xattr.uses > 1) shared.push(xattr);
  shared.sort(sharedOrder);
  let sharedBytes = 0;
  for (const xattr of shared) {
    xattr.sharedOffset = sharedBytes;
    sharedBytes += encodedBytes(xattr);
  }
  const inodes = perNode.map(layOut);
  if (inodes.some(({ bytes }) => xattrCount(bytes) > icountMax)) {
    throw new TreeError('/', 'the extended attributes of an inode do not fit');
  }
  return { inodes, shared, sharedBytes };
}

/** i_xattr_icount for attributes that take `bytes` of an inode. */
export function xattrCount(bytes: number): number {
  return bytes === 0 ? 0 : (bytes - format.xattrHeaderBytes) / 4 + 1;
}
