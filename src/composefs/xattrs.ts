import { TreeError } from './errors.ts';
import * as format from './format.ts';
import type { ImageNode } from './nodes.ts';
import { xxh32 } from './xxhash.ts';

/** An attribute as it stands in the image, padded to 4 bytes, and its bit in an inode's filter of names. */
interface EncodedXattr {
  readonly name: string;
  readonly value: string;
  readonly bytes: Uint8Array;
  readonly filterBit: number;
  uses: number;
  /** Bytes from the start of the shared area; undefined while it stands in its inodes. */
  sharedOffset: number | undefined;
}

/** The attributes of one inode as they are written: positions of shared ones, then the others in full. */
export interface InodeXattrs {
  readonly filter: number;
  /** Bytes from the start of the shared area. */
  readonly sharedOffsets: readonly number[];
  readonly own: readonly Uint8Array[];
  /** How much of the inode they take, in bytes; 0 without attributes. */
  readonly bytes: number;
}

/** The attributes of all inodes, by position as in the list of nodes, and the area of those that several have. */
export interface XattrTables {
  readonly inodes: readonly InodeXattrs[];
  readonly shared: readonly Uint8Array[];
  readonly sharedBytes: number;
}

/** An inode refers to at most this many shared attributes; the rest stand in it. */
const sharedPerInodeMax = 128;
const icountMax = 65535;

const none: InodeXattrs = { filter: 0, sharedOffsets: [], own: [], bytes: 0 };

function encode(name: string, value: Uint8Array): EncodedXattr {
  // composefs writes attributes of lustre with their whole name.
  const known = format.xattrPrefixes.find(({ prefix }) => prefix !== 'lustre.' && name.startsWith(prefix));
  const index = known?.index ?? 0;
  const rest = Buffer.from(name.slice(known?.prefix.length ?? 0), 'latin1');
  const bytes = Buffer.alloc(format.roundUp(format.xattrEntryBytes + rest.length + value.length, 4));
  bytes.writeUInt8(rest.length, 0);
  bytes.writeUInt8(index, 1);
  bytes.writeUInt16LE(value.length, 2);
  bytes.set(rest, format.xattrEntryBytes);
  bytes.set(value, format.xattrEntryBytes + rest.length);
  const filterBit = xxh32(rest, format.xattrFilterSeed + index) % 32;
  const text = Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1');
  return { name, value: text, bytes, filterBit, uses: 0, sharedOffset: undefined };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** mkcomposefs's order of shared attributes: last name first, then longest value first, then greatest value first. */
function sharedOrder(a: EncodedXattr, b: EncodedXattr): number {
  return compareText(b.name, a.name) || b.value.length - a.value.length || compareText(b.value, a.value);
}

function layOut(xattrs: readonly EncodedXattr[]): InodeXattrs {
  if (xattrs.length === 0) return none;
  let used = 0;
  const sharedOffsets: number[] = [];
  const own: Uint8Array[] = [];
  let bytes = format.xattrHeaderBytes;
  for (const { filterBit, sharedOffset, bytes: entry } of xattrs) {
    used |= 1 << filterBit;
    if (sharedOffset !== undefined && sharedOffsets.length < sharedPerInodeMax) {
      sharedOffsets.push(sharedOffset);
      bytes += 4;
    } else {
      own.push(entry);
      bytes += entry.length;
    }
  }
  return { filter: ~used >>> 0, sharedOffsets, own, bytes };
}

/** Lay out the extended attributes of all inodes. Throws TreeError where an inode has too many. */
export function makeXattrTables(nodes: readonly ImageNode[]): XattrTables {
  const distinct = new Map<string, EncodedXattr>();
  const perNode = nodes.map((node) => {
    const names = [...node.xattrs.keys()].sort();
    return names.map((name) => {
      const value = node.xattrs.get(name) ?? new Uint8Array(0);
      const key = `${name}\0${Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1')}`;
      let encoded = distinct.get(key);
      if (encoded === undefined) distinct.set(key, (encoded = encode(name, value)));
      encoded.uses++;
      return encoded;
    });
  });
  const shared = [...distinct.values()].filter(({ uses }) => uses > 1).sort(sharedOrder);
  let sharedBytes = 0;
  for (const xattr of shared) {
    xattr.sharedOffset = sharedBytes;
    sharedBytes += xattr.bytes.length;
  }
  const inodes = perNode.map(layOut);
  if (inodes.some(({ bytes }) => xattrCount(bytes) > icountMax)) {
    throw new TreeError('/', 'the extended attributes of an inode do not fit');
  }
  return { inodes, shared: shared.map(({ bytes }) => bytes), sharedBytes };
}

/** i_xattr_icount for attributes that take `bytes` of an inode. */
export function xattrCount(bytes: number): number {
  return bytes === 0 ? 0 : (bytes - format.xattrHeaderBytes) / 4 + 1;
}
