import { digestHex } from '../base/digest.ts';
import type { Dirent } from './directory.ts';
import { dotsOf, readDirents } from './directory.ts';
import { DumpWriter } from './dump-writer.ts';
import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { chunkBytes, readInode } from './inode.ts';
import { hidesStoreFolder, locateContent, readTarget, readTime, redirectedPath } from './inode-data.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { readXattrs } from './inode-xattrs.ts';
import type { ShownXattr } from './shown-xattrs.ts';
import { showXattrs } from './shown-xattrs.ts';
import type { Image } from './superblock.ts';
import { openImage } from './superblock.ts';
import type { StoredForm } from './tree.ts';

/** A directory that is being listed. Paths below it begin with its own, which stands in the dump already. */
interface Visit {
  readonly dirents: Generator<Dirent, void>;
  readonly pathOffset: number;
  readonly pathBytes: number;
}

class ImageDumper {
  readonly #image: Image;
  readonly #out: DumpWriter;
  readonly #bytesMax: number;
  readonly #visits: Visit[] = [];
  /** Where in the dump the first path of an inode stands, plus one, by inode number; 0 for what was not met yet. */
  readonly #met: Float64Array;
  readonly #directories = new Set<number>();
  /** Bytes of directories and attributes that may still be read: a sound image's do not overlap. */
  #bytesLeft: number;
  /**
   * Bytes of attributes that may still be read once more, for further names of their inodes: as many as a dump has, where what
   * shows of them is written once more. Without it, a name of 13 bytes would cost what thousands of attributes do that never show.
   */
  #againLeft: number;

  constructor(image: Image, bytesMax: number) {
    this.#image = image;
    this.#bytesLeft = image.bytes.length;
    this.#againLeft = bytesMax;
    this.#met = new Float64Array(Math.ceil(image.bytes.length / format.slotBytes));
    this.#bytesMax = bytesMax;
    this.#out = new DumpWriter(image.bytes.length, bytesMax);
  }

  dump(): Uint8Array {
    const root = readInode(this.#image, this.#image.rootNid);
    if ((root.mode & format.modeTypeMask) !== format.modeDirectory)
      throw new ImageError(format.superblockOffset + 14, 'the root is not a directory');
    this.#out.ascii('/');
    // The root's own path is left out of those below it.
    this.#line(root, 0, 0);
    for (let visit = this.#visits.at(-1); visit !== undefined; visit = this.#visits.at(-1)) {
      const next = visit.dirents.next();
      if (next.done === true) this.#visits.pop();
      else if (dotsOf(this.#image.bytes, next.value) === 0) this.#entry(visit, next.value);
    }
    return this.#out.taken();
  }

  #entry(directory: Visit, dirent: Dirent): void {
    const { nid, nameOffset, nameBytes } = dirent;
    if (this.#directories.has(nid))
      throw new ImageError(nameOffset, `directory ${nid} is reached by two ways`);
    const inode = readInode(this.#image, nid);
    if (hidesStoreFolder(this.#image, inode)) return;
    const out = this.#out;
    const pathOffset = out.length;
    out.again(directory.pathOffset, directory.pathBytes);
    out.ascii('/');
    out.escaped(this.#image.bytes, nameOffset, nameOffset + nameBytes);
    this.#line(inode, pathOffset, out.length - pathOffset);
  }

  /** The rest of a line whose path is written. */
  #line(inode: InodeHead, pathOffset: number, pathBytes: number): void {
    const first = this.#met[inode.nid] ?? 0;
    const isLink = first > 0;
    if (isLink) this.#spendAgain(inode.xattrBytes, inode);
    else this.#spend(inode.xattrBytes, inode);
    const raw = readXattrs(this.#image, inode);
    const { shown, whiteout } = showXattrs(this.#image, inode, raw);
    const type = whiteout ? format.modeCharacter : inode.mode & format.modeTypeMask;
    this.#numbers(inode, type, isLink);
    this.#data(inode, type, raw, isLink ? first - 1 : undefined);
    this.#xattrs(shown);
    this.#out.ascii('\n');
    if (type === format.modeDirectory) this.#open(inode, pathOffset, pathBytes);
    else if (!isLink) this.#met[inode.nid] = pathOffset + 1;
  }

  /** SIZE, MODE, NLINK, UID, GID, RDEV and MTIME. */
  #numbers(inode: InodeHead, type: number, link: boolean): void {
    const { view } = this.#image;
    const { compact, offset } = inode;
    const out = this.#out;
    out.field(hasSize(type) ? inode.size : 0);
    out.ascii(link ? ' @' : ' ');
    out.ascii((type | (inode.mode & 0o7777)).toString(8));
    out.field(compact ? view.getUint16(offset + 6, true) : view.getUint32(offset + 44, true));
    out.field(compact ? view.getUint16(offset + 24, true) : view.getUint32(offset + 24, true));
    out.field(compact ? view.getUint16(offset + 26, true) : view.getUint32(offset + 28, true));
    // A whiteout of the tree is kept as a file: it has no number of its own.
    out.field(isDevice(inode.mode & format.modeTypeMask) ? inode.union : 0);
    const { seconds, nanoseconds } = readTime(this.#image, inode);
    out.ascii(` ${seconds}.${nanoseconds}`);
  }

  /** PAYLOAD, CONTENT and DIGEST; the payload of a further name is the first path, at `first`. */
  #data(inode: InodeHead, type: number, raw: readonly RawXattr[], first: number | undefined): void {
    const located = type === format.modeFile ? locateContent(this.#image, inode, raw) : undefined;
    const target =
      type === format.modeSymlink ? Buffer.from(readTarget(this.#image, inode), 'latin1') : undefined;
    const out = this.#out;
    const { bytes } = this.#image;
    out.ascii(' ');
    if (first !== undefined) out.fieldAgain(first);
    else if (target !== undefined) out.optional(target, 0, target.length);
    else if (located?.redirect !== undefined)
      out.optional(bytes, ...redirectedPath(this.#image, located.redirect));
    else out.ascii('-');
    out.ascii(' ');
    const inline = located?.form === undefined ? located?.inline : this.#stored(inode, located.form);
    if (inline !== undefined && inline.length > 0) out.optional(inline, 0, inline.length);
    else out.ascii('-');
    out.ascii(' ');
    out.ascii(located?.digest === undefined ? '-' : digestHex(located.digest));
  }

  /** The content of a file of plain EROFS. */
  #stored(inode: InodeHead, form: StoredForm): Uint8Array {
    if (form === 'chunks') return chunkBytes(this.#image, inode, this.#bytesMax);
    throw new IncompatibleImage(
      inode.offset,
      `the content of inode ${inode.nid} is compressed, and a dump would have to hold it`,
    );
  }

  #xattrs(shown: readonly ShownXattr[]): void {
    const out = this.#out;
    for (const { name, valueOffset, valueBytes } of shown) {
      out.ascii(' ');
      out.escapedXattr(Buffer.from(name, 'latin1'), 0, name.length);
      out.ascii('=');
      out.escapedXattr(this.#image.bytes, valueOffset, valueOffset + valueBytes);
    }
  }

  #open(inode: InodeHead, pathOffset: number, pathBytes: number): void {
    this.#spend(inode.size, inode);
    this.#directories.add(inode.nid);
    this.#visits.push({ dirents: readDirents(this.#image, inode), pathOffset, pathBytes });
  }

  #spendAgain(bytes: number, { nid, offset }: InodeHead): void {
    this.#againLeft -= bytes;
    if (this.#againLeft < 0)
      throw new ImageError(offset, `inode ${nid} has too many names for what it has of attributes`);
  }

  #spend(bytes: number, { nid, offset }: InodeHead): void {
    this.#bytesLeft -= bytes;
    if (this.#bytesLeft < 0)
      throw new ImageError(offset, `inode ${nid} shares data with others that must be its own`);
  }
}

function isDevice(type: number): boolean {
  return type === format.modeCharacter || type === format.modeBlock;
}

function hasSize(type: number): boolean {
  return type === format.modeFile || type === format.modeDirectory || type === format.modeSymlink;
}

/** Larger dumps are refused: a small image can nest its folders so that paths alone have terabytes. */
const dumpBytesMax = 2 ** 30;

/**
 * The dump of a composefs image (composefs-dump(5)), as `composefs-info dump` prints it: depth first, in the order of the
 * image's names. Made straight from the image's bytes, which may be an attacker's. Throws ImageError, IncompatibleImage.
 */
export function dumpImage(bytes: Uint8Array, bytesMax: number = dumpBytesMax): Uint8Array {
  return new ImageDumper(openImage(bytes), bytesMax).dump();
}
