import { TreeError } from './errors.ts';
import * as format from './format.ts';
import { xxh32 } from './xxhash.ts';

/** A name of attributes: the prefix by number, the rest, and its bit in an inode's filter of names. */
interface XattrName {
  readonly name: string;
  readonly prefix: number;
  readonly rest: string;
  readonly filterBit: number;
  /** The attributes of this name, by value. */
  readonly byValue: Map<string, ImageXattr>;
}

/**
 * An attribute as the image holds it, once for all inodes that have it. Name and value are binary strings, which take far
 * less memory than buffers.
 */
export interface ImageXattr {
  readonly key: XattrName;
  readonly value: string;
  /** How many inodes have it; 0 until XattrTable.share counts. */
  uses: number;
  /** Bytes from the start of the shared area; undefined while it stands in its inodes. */
  sharedOffset: number | undefined;
}

/** The attributes that several inodes have, in the order in which they are written, and what they take in bytes. */
export interface SharedXattrs {
  readonly xattrs: readonly ImageXattr[];
  readonly bytes: number;
}

/** An inode refers to at most this many shared attributes; the rest stand in it. */
const sharedPerInodeMax = 128;
const icountMax = 65535;

function makeName(name: string): XattrName {
  // composefs writes attributes of lustre with their whole name.
  const known = format.xattrPrefixes.find(({ prefix }) => prefix !== 'lustre.' && name.startsWith(prefix));
  const prefix = known?.index ?? 0;
  const rest = name.slice(known?.prefix.length ?? 0);
  const filterBit = xxh32(Buffer.from(rest, 'latin1'), format.xattrFilterSeed + prefix) % 32;
  return { name, prefix, rest, filterBit, byValue: new Map() };
}

/** All attributes of an image, each once. */
export class XattrTable {
  readonly #names = new Map<string, XattrName>();

  /** The attribute of this name and value, both binary strings. */
  intern(name: string, value: string): ImageXattr {
    let key = this.#names.get(name);
    if (key === undefined) this.#names.set(name, (key = makeName(name)));
    let xattr = key.byValue.get(value);
    if (xattr === undefined)
      key.byValue.set(value, (xattr = { key, value, uses: 0, sharedOffset: undefined }));
    return xattr;
  }

  /** Whether there is an attribute of this name. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** Gives those attributes their places that several inodes have, once all inodes have theirs. */
  share(nodes: readonly HoldsXattrs[]): SharedXattrs {
    for (const node of nodes) {
      for (const xattr of node.xattrs) xattr.uses++;
      if (node.xattrs.length > 1) node.xattrs.sort((a, b) => compareText(a.key.name, b.key.name));
    }
    const xattrs: ImageXattr[] = [];
    for (const { byValue } of this.#names.values())
      for (const xattr of byValue.values()) if (xattr.uses > 1) xattrs.push(xattr);
    xattrs.sort(sharedOrder);
    let bytes = 0;
    for (const xattr of xattrs) {
      xattr.sharedOffset = bytes;
      bytes += encodedBytes(xattr);
    }
    return { xattrs, bytes };
  }
}

/** What has attributes: a node of the image. */
interface HoldsXattrs {
  readonly xattrs: ImageXattr[];
}

/** What an attribute takes in the image, in bytes. */
function encodedBytes({ key, value }: ImageXattr): number {
  return format.roundUp(format.xattrEntryBytes + key.rest.length + value.length, 4);
}

/** Writes an attribute at `offset`, and says where it ends. */
function writeEntry(target: Buffer, xattr: ImageXattr, offset: number): number {
  const { key, value } = xattr;
  target.writeUInt8(key.rest.length, offset);
  target.writeUInt8(key.prefix, offset + 1);
  target.writeUInt16LE(value.length, offset + 2);
  target.write(key.rest, offset + format.xattrEntryBytes, 'latin1');
  target.write(value, offset + format.xattrEntryBytes + key.rest.length, 'latin1');
  return offset + encodedBytes(xattr);
}

/** Writes the shared attributes one after another from `offset` on. */
export function writeShared(target: Buffer, { xattrs }: SharedXattrs, offset: number): void {
  let at = offset;
  for (const xattr of xattrs) at = writeEntry(target, xattr, at);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** mkcomposefs's order of shared attributes: last name first, then longest value first, then greatest value first. */
function sharedOrder(a: ImageXattr, b: ImageXattr): number {
  return (
    compareText(b.key.name, a.key.name) || b.value.length - a.value.length || compareText(b.value, a.value)
  );
}

/** Whether an inode refers to the attribute by its place, where it does so for `before` others already. */
function isShared({ sharedOffset }: ImageXattr, before: number): boolean {
  return sharedOffset !== undefined && before < sharedPerInodeMax;
}

/** What an inode's attributes take of it, in bytes; 0 without any. Throws TreeError where it has too many. */
export function inodeXattrBytes(xattrs: readonly ImageXattr[]): number {
  if (xattrs.length === 0) return 0;
  let [bytes, shared] = [format.xattrHeaderBytes, 0];
  for (const xattr of xattrs) {
    if (isShared(xattr, shared)) {
      bytes += 4;
      shared++;
    } else bytes += encodedBytes(xattr);
  }
  if (xattrCount(bytes) > icountMax)
    throw new TreeError('/', 'the extended attributes of an inode do not fit');
  return bytes;
}

/** Writes an inode's attributes at `offset`: a filter of names, places of shared ones from `sharedBase` on, then the others. */
export function writeInodeXattrs(
  target: Buffer,
  xattrs: readonly ImageXattr[],
  offset: number,
  sharedBase: number,
): void {
  let [used, shared] = [0, 0];
  for (const xattr of xattrs) {
    used |= 1 << xattr.key.filterBit;
    if (!isShared(xattr, shared)) continue;
    const place = (sharedBase + (xattr.sharedOffset ?? 0)) / 4;
    target.writeUInt32LE(place, offset + format.xattrHeaderBytes + 4 * shared);
    shared++;
  }
  target.writeUInt32LE(~used >>> 0, offset);
  target.writeUInt8(shared, offset + 4);
  let at = offset + format.xattrHeaderBytes + 4 * shared;
  let before = 0;
  for (const xattr of xattrs) {
    if (isShared(xattr, before)) before++;
    else at = writeEntry(target, xattr, at);
  }
}

/** i_xattr_icount for attributes that take `bytes` of an inode. */
export function xattrCount(bytes: number): number {
  return bytes === 0 ? 0 : (bytes - format.xattrHeaderBytes) / 4 + 1;
}
