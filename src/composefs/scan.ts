import type { Digest } from '../base/digest.ts';
import type { Dirent } from './directory.ts';
import { direntName, dotsOf, readDirents } from './directory.ts';
import { ImageError, IncompatibleImage } from './errors.ts';
import { readExternal, refuseRedirect } from './external.ts';
import * as format from './format.ts';
import type { InodeHead } from './inode.ts';
import { chunkMap, flatPieces, isFlat, readInode } from './inode.ts';
import type { RawXattr } from './inode-xattrs.ts';
import { readXattrs, textAt } from './inode-xattrs.ts';
import { isStoreRedirect, storeRedirectBytesMax } from './store-path.ts';
import type { Image } from './superblock.ts';
import { openImage } from './superblock.ts';

/** What must be known of an image before the kernel mounts it. */
export interface ImageScan {
  /** `composefs` where the composefs header is at offset 0, else plain EROFS. */
  readonly fileSystem: 'composefs' | 'erofs';
  /** The composefs format version; undefined for plain EROFS. */
  readonly formatVersion: number | undefined;
  /** Whether there is a character or block device other than 0:0, the overlayfs whiteout. */
  readonly devices: boolean;
  /** The path of the first of them (a binary string, "/dev/sda"). */
  readonly devicePath: string | undefined;
  /** Store paths of the objects that files need ("ab/cdef…"), each once. */
  readonly objects: readonly string[];
  /** The digests that belong to `objects`, by position; undefined where the image gives none. */
  readonly objectDigests: readonly (Digest | undefined)[];
  /** The sizes that the files have whose contents are `objects`, in bytes, by position; of several files, the first's. */
  readonly objectSizes: readonly number[];
  /** Some file names an object without a digest to check it by. */
  readonly missingDigest: boolean;
  /** The image's size in bytes. */
  readonly bytes: number;
  /** How many inodes can be reached from the root. */
  readonly inodes: number;
}

/** A directory still to be read, with its way back to the root. */
interface Visit {
  readonly inode: InodeHead;
  readonly parent: Visit | undefined;
  readonly dirent: Dirent | undefined;
}

/** Characters of a path that are shown, and at most one name more. */
const shownPathMax = 1024;

const unseen = 0;
const seenDirectory = 1;
const seenOther = 2;

class Scanner {
  readonly #image: Image;
  /** What was reached, by inode number. */
  readonly #seen: Uint8Array;
  readonly #pending: Visit[] = [];
  readonly #objects = new Map<string, { readonly digest: Digest | undefined; readonly size: number }>();
  /**
   * Bytes of directories, attributes and chunk maps that may still be read. In a sound image they do not overlap, so that all of
   * them together are no longer than the image; a hostile one could have every inode point at the same megabytes.
   */
  #bytesLeft: number;
  #inodes = 0;
  #devicePath: string | undefined;
  #missingDigest = false;

  constructor(image: Image) {
    this.#image = image;
    this.#bytesLeft = image.bytes.length;
    this.#seen = new Uint8Array(Math.ceil(image.bytes.length / format.slotBytes));
  }

  scan(): ImageScan {
    const root = readInode(this.#image, this.#image.rootNid);
    if ((root.mode & format.modeTypeMask) !== format.modeDirectory) {
      throw new ImageError(root.offset, 'the root is not a directory');
    }
    this.#visit(root, undefined, undefined);
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop())
      this.#readDirectory(next);
    const { fileSystem, formatVersion, bytes } = this.#image;
    return {
      fileSystem,
      formatVersion,
      devices: this.#devicePath !== undefined,
      devicePath: this.#devicePath,
      objects: [...this.#objects.keys()],
      objectDigests: Array.from(this.#objects.values(), ({ digest }) => digest),
      objectSizes: Array.from(this.#objects.values(), ({ size }) => size),
      missingDigest: this.#missingDigest,
      bytes: bytes.length,
      inodes: this.#inodes,
    };
  }

  #readDirectory(directory: Visit): void {
    const { inode, parent } = directory;
    this.#spend(inode.size, inode);
    for (const dirent of readDirents(this.#image, inode)) {
      const dots = dotsOf(this.#image.bytes, dirent);
      if (dots === 0) {
        this.#reach(directory, dirent);
      } else if (dirent.nid !== (dots === 1 ? inode.nid : (parent?.inode.nid ?? inode.nid))) {
        throw new ImageError(dirent.nameOffset, `"${'.'.repeat(dots)}" is another directory`);
      }
    }
  }

  #reach(directory: Visit, dirent: Dirent): void {
    const seen = this.#seen[dirent.nid] ?? unseen;
    if (seen === seenOther) return;
    if (seen === seenDirectory) {
      throw new ImageError(dirent.nameOffset, `directory ${dirent.nid} is reached by two ways`);
    }
    this.#visit(readInode(this.#image, dirent.nid), directory, dirent);
  }

  #visit(inode: InodeHead, parent: Visit | undefined, dirent: Dirent | undefined): void {
    this.#inodes++;
    const type = inode.mode & format.modeTypeMask;
    this.#seen[inode.nid] = type === format.modeDirectory ? seenDirectory : seenOther;
    this.#spend(inode.xattrBytes, inode);
    const xattrs = this.#image.fileSystem === 'composefs' ? readXattrs(this.#image, inode) : [];
    if (type === format.modeDirectory) {
      refuseRedirect(this.#image, inode, xattrs);
      this.#pending.push({ inode, parent, dirent });
    } else if (type === format.modeFile) {
      this.#checkData(inode);
      const external = readExternal(this.#image, inode, xattrs);
      if (external?.redirect !== undefined) this.#addObject(inode, external.redirect, external.digest);
    } else if (type === format.modeSymlink) {
      this.#checkData(inode);
    } else if (type === format.modeBlock || (type === format.modeCharacter && inode.union !== 0)) {
      this.#devicePath ??= this.#pathOf(parent, dirent);
    }
  }

  /** Data that the kernel would read lies in the image. */
  #checkData(inode: InodeHead): void {
    if (isFlat(inode)) {
      flatPieces(this.#image, inode);
    } else if (inode.layout === format.layoutChunkBased) {
      this.#spend(chunkMap(this.#image, inode).bytes, inode);
    } else if (inode.layout > format.layoutChunkBased) {
      throw new IncompatibleImage(
        inode.offset,
        `inode ${inode.nid} has the unknown data layout ${inode.layout}`,
      );
    } else if (this.#image.fileSystem === 'composefs') {
      throw new IncompatibleImage(
        inode.offset,
        `inode ${inode.nid} is compressed, which composefs does not do`,
      );
    }
  }

  #addObject(inode: InodeHead, xattr: RawXattr, digest: Digest | undefined): void {
    const { valueOffset, valueBytes } = xattr;
    if (!isStoreRedirect(this.#image.bytes, valueOffset, valueBytes)) {
      // Many inodes may share one long attribute: no more of it is shown than an object's name can have.
      const shown = JSON.stringify(
        textAt(this.#image, valueOffset, Math.min(valueBytes, storeRedirectBytesMax)),
      );
      throw new IncompatibleImage(
        inode.offset,
        `inode ${inode.nid} is redirected to ${shown}, which is no object of a store`,
      );
    }
    if (digest === undefined) this.#missingDigest = true;
    const object = textAt(this.#image, valueOffset + 1, valueBytes - 1);
    const known = this.#objects.get(object);
    if (known?.digest !== undefined && digest !== undefined && known.digest !== digest) {
      throw new ImageError(inode.offset, `two files give different digests for the object ${object}`);
    }
    if (known?.digest === undefined) this.#objects.set(object, { digest, size: known?.size ?? inode.size });
  }

  #spend(bytes: number, inode: InodeHead): void {
    this.#bytesLeft -= bytes;
    if (this.#bytesLeft < 0) throw new ImageError(inode.offset, 'inodes share data that must be their own');
  }

  #pathOf(parent: Visit | undefined, dirent: Dirent | undefined): string {
    const names: string[] = [];
    let visit = parent;
    let length = 0;
    for (let name = dirent; name !== undefined; name = visit?.dirent, visit = visit?.parent) {
      // It is told in a reply and in the log, and folders can be nested as deep as the image is large.
      if (length > shownPathMax) return `…/${names.reverse().join('/')}`;
      const text = direntName(this.#image, name);
      names.push(text);
      length += text.length + 1;
    }
    return `/${names.reverse().join('/')}`;
  }
}

/**
 * Walk every inode of an image once. The bytes may be an attacker's: time and memory are linear in the image's size.
 * Throws ImageError for what is broken, IncompatibleImage for what is not understood.
 */
export function scanImage(image: Uint8Array): ImageScan {
  return new Scanner(openImage(image)).scan();
}
