import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';

import type {
  Directory,
  Entry,
  FileContent,
  InodeAttributes,
  NonDirectory,
  RegularFile,
  Timestamp,
  Tree,
  Xattr,
} from '../composefs/tree.ts';
import type { Digest } from '../base/digest.ts';
import { inlineFileBytesMax } from '../composefs/write.ts';
import type { DirectoryEntry } from '../sys/directory-entries.ts';
import { readEntries } from '../sys/directory-entries.ts';
import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openAt } from '../sys/file.ts';
import type { InodeStatus } from '../sys/inode-status.ts';
import { isType, statusAt, statusOf, statusWherePresent } from '../sys/inode-status.ts';
import type { XattrHolder } from '../sys/xattr.ts';
import { getXattr, listXattrs } from '../sys/xattr.ts';
import type { Measured } from './content.ts';
import { objectPath } from './objects.ts';
import { Slots } from './slots.ts';
import { errorCode } from './unfinished-file.ts';

/** How many files are open at once unless the caller says: enough to keep the disk busy while one of them is hashed. */
const filesAtOnceDefault = 16;

/** Who owns everything in the image, instead of the owners on this machine. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** What `scanDirectory` does with the files that it finds. */
export interface ScanOptions {
  /**
   * Keeps the contents of a regular file of more than `inlineFileBytesMax` bytes, open for reading as `fd` until the
   * promise is settled, and says what was read. Called for several files at once.
   */
  readonly keep: (fd: number, size: number) => Promise<Measured>;
  readonly owner?: Owner;
  /** How many files are open, and in the hands of `keep`, at once; 16 unless given. */
  readonly filesAtOnce?: number;
  /** Leave out device nodes, whiteouts among them, as mkcomposefs's --skip-devices does. */
  readonly skipDevices?: boolean;
  /** Which extended attributes are taken: all unless given, those of the prefix `user.`, or none. */
  readonly xattrs?: 'all' | 'user' | 'none';
  /** Let every time be 0, the start of 1970. */
  readonly useEpoch?: boolean;
  /** Paths below the directory, as binary strings without a slash at either end, that are left out with all below them. */
  readonly exclude?: ReadonlySet<string>;
  /** A directory that may not be met on the way, such as the store that is being filled. */
  readonly outside?: string;
}

/** Something in a directory could not be read, or changed while it was. */
export class ScanError extends Error {
  override readonly name = 'ScanError';
  /** The path, with the bytes that are not UTF-8 replaced. */
  readonly path: string;
  readonly reason: string;

  constructor(path: Buffer, reason: string, options?: ErrorOptions) {
    const readable = path.toString('utf8');
    super(`${readable}: ${reason}`, options);
    this.path = readable;
    this.reason = reason;
  }
}

/**
 * The tree below the directory `path`, with everything that mkcomposefs reads: all types of files, names of any bytes,
 * extended attributes, times to the nanosecond; and hard links as such, which mkcomposefs takes for files of their own.
 * Other filesystems that are mounted below are part of it. Links are never followed (`path` itself may be one): every
 * lookup is by one name in a directory that is held open, so nobody can lead it elsewhere by renaming.
 * Throws ScanError for what cannot be read, vanishes, or changes while it is read, and what `keep` throws.
 */
export async function scanDirectory(path: string, options: ScanOptions): Promise<Tree> {
  const scan = new Scan(options);
  const source = Buffer.from(path.replace(/(?<=.)\/+$/, ''));
  try {
    const root = openSync(source, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const tree: Tree = { root: await scan.directory(root, source, '') };
      await scan.finish();
      return tree;
    } finally {
      await scan.settle();
      closeSync(root);
    }
  } catch (error) {
    if (errorCode(error) === 'ENOTDIR') throw new ScanError(source, 'not a directory', { cause: error });
    throw named(error, source);
  }
}

type Mutable<Type> = { -readonly [Key in keyof Type]: Type[Key] };

/** One scan under way. */
class Scan {
  readonly #options: ScanOptions;
  readonly #slots: Slots;
  /** Inodes with several names on this machine, by InodeStatus.inode. */
  readonly #linked = new Map<string, Mutable<NonDirectory>>();
  readonly #outside: InodeStatus | undefined;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#slots = new Slots(options.filesAtOnce ?? filesAtOnceDefault);
    if (options.outside !== undefined) this.#outside = statusWherePresent(options.outside);
  }

  finish(): Promise<void> {
    return this.#slots.finish();
  }

  settle(): Promise<void> {
    return this.#slots.settle();
  }

  /** Reads the directory that is open as `fd`; `path` is for messages, `inside` its path below the source. */
  async directory(fd: number, path: Buffer, inside: string): Promise<Directory> {
    const before = statusOf(fd);
    if (this.#outside?.isSame(before) === true)
      throw new ScanError(
        path,
        'the object store may not be inside the directory that an image is built from',
      );
    const directory: Directory = { type: 'directory', ...this.#attributes(before, fd), entries: new Map() };
    for (const { name, type } of readEntries(fd).sort(byName)) {
      const entryInside = inside === '' ? name : `${inside}/${name}`;
      if (this.#options.exclude?.has(entryInside) === true) continue;
      const at: Place = { directory: fd, name, above: path };
      try {
        // Not asynchronous but here and for directories: for most files that would cost more than reading what they are.
        if (!this.#slots.isFree) await this.#slots.free();
        const known = type === 0 ? statusAt(fd, name).mode & S_IFMT : type;
        const entry =
          known === S_IFDIR ? await this.#subdirectory(at, entryInside) : this.#nonDirectory(at, known);
        if (entry !== undefined) directory.entries.set(name, entry);
      } catch (error) {
        throw named(error, pathOf(at));
      }
    }
    unchanged(before, statusOf(fd), () => path);
    return directory;
  }

  async #subdirectory(at: Place, inside: string): Promise<Directory> {
    using opened = openAt(at.directory, at.name, { noFollow: true, directory: true });
    return await this.directory(opened.number, pathOf(at), inside);
  }

  /** What the name of something of this type stands for; undefined where it is left out. */
  #nonDirectory(at: Place, type: number): Entry | undefined {
    if (type === S_IFREG) return this.#file(at);
    if (this.#options.skipDevices === true && (type === S_IFCHR || type === S_IFBLK)) return undefined;
    const status = statusAt(at.directory, at.name);
    return this.#once(status, () => this.#special(at, status));
  }

  /** The inode, which `make` makes where none of its names was met before; else a link to it. */
  #once(status: InodeStatus, make: () => Mutable<NonDirectory>): Entry {
    if (status.nlink === 1) return make();
    const known = this.#linked.get(status.inode);
    if (known !== undefined) {
      known.nlink++;
      return { type: 'link', target: known };
    }
    const inode = make();
    this.#linked.set(status.inode, inode);
    return inode;
  }

  #special(at: Place, status: InodeStatus): Mutable<NonDirectory> {
    const here = procPath(at);
    const base = { ...this.#attributes(status, here), nlink: 1 };
    let inode: NonDirectory;
    if (isType(status, S_IFLNK)) {
      const target = readlinkSync(here, { encoding: 'buffer' });
      inode = { type: 'symlink', target: target.toString('latin1'), ...base };
    } else if (isType(status, S_IFIFO)) inode = { type: 'fifo', ...base };
    else if (isType(status, S_IFSOCK)) inode = { type: 'socket', ...base };
    else if (isType(status, S_IFCHR)) inode = { type: 'character', rdev: status.rdev, ...base };
    else if (isType(status, S_IFBLK)) inode = { type: 'block', rdev: status.rdev, ...base };
    // It was something else when the directory was read.
    else throw changed(pathOf(at));
    unchanged(status, statusAt(at.directory, at.name), () => pathOf(at));
    return inode;
  }

  #file(at: Place): Entry {
    let opened: OwnedFd;
    try {
      // A link or a named pipe put in its place is neither followed nor waited for.
      opened = openAt(at.directory, at.name, { noFollow: true, nonBlocking: true });
    } catch (error) {
      if (isSyscallError(error, 'EACCES')) return this.#unreadable(at, error);
      throw error;
    }
    using file = opened;
    const status = statusOf(file.number);
    if (!isType(status, S_IFREG)) throw changed(pathOf(at));
    return this.#once(status, () => this.#regular(at, file, status));
  }

  /** A file that may not be opened: everything of an empty one is known all the same. */
  #unreadable(at: Place, error: Error): Entry {
    const status = statusAt(at.directory, at.name);
    if (!isType(status, S_IFREG) || status.size > 0) throw error;
    return this.#once(status, () => {
      const attributes = this.#attributes(status, procPath(at));
      unchanged(status, statusAt(at.directory, at.name), () => pathOf(at));
      return { type: 'file', ...attributes, nlink: 1, size: 0, content: { kind: 'inline', bytes: noBytes } };
    });
  }

  #regular(at: Place, file: OwnedFd, status: InodeStatus): Mutable<RegularFile> {
    const { size } = status;
    // Not by spreading: that takes longer, and this is what most of a tree is.
    const { mode, uid, gid, mtime, xattrs } = this.#attributes(status, file.number);
    if (size <= inlineFileBytesMax) {
      const bytes = readSmall(file.number, status, at);
      return {
        type: 'file',
        mode,
        uid,
        gid,
        mtime,
        xattrs,
        nlink: 1,
        size,
        content: { kind: 'inline', bytes },
      };
    }
    // The digest comes later; the inode has its place in the tree before.
    const content: Mutable<ExternalContent> = { kind: 'external', path: undefined, digest: undefined };
    const fd = file.take();
    this.#slots.begin(async () => {
      const digest = await this.#keep(fd, status, at);
      content.digest = digest;
      content.path = objectPath(digest);
    });
    return { type: 'file', mode, uid, gid, mtime, xattrs, nlink: 1, size, content };
  }

  /** Keeps the contents of the file that is open as `fd`, and closes it. */
  async #keep(fd: number, status: InodeStatus, at: Place): Promise<Digest> {
    try {
      const { digest, bytes } = await this.#options.keep(fd, status.size);
      unchanged(status, statusOf(fd), () => pathOf(at));
      if (bytes !== status.size) throw changed(pathOf(at));
      return digest;
    } catch (error) {
      const code = errorCode(error);
      if (code === undefined) throw error;
      throw new ScanError(pathOf(at), `it cannot be copied into the store (${code})`, { cause: error });
    } finally {
      closeSync(fd);
    }
  }

  #attributes(status: InodeStatus, holder: XattrHolder): InodeAttributes {
    const { useEpoch, xattrs = 'all' } = this.#options;
    return {
      mode: status.mode & 0o7777,
      uid: this.#options.owner?.uid ?? status.uid,
      gid: this.#options.owner?.gid ?? status.gid,
      mtime:
        useEpoch === true ? epoch : { seconds: status.mtimeSeconds, nanoseconds: status.mtimeNanoseconds },
      xattrs: xattrs === 'none' ? noXattrs : readXattrs(holder, xattrs),
    };
  }
}

type ExternalContent = Extract<FileContent, { kind: 'external' }>;

const { S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK } = constants;

/** A name in a directory that is held open, and the path of that directory, for messages. */
interface Place {
  readonly directory: number;
  /** A binary string, as the names in a tree. */
  readonly name: string;
  readonly above: Buffer;
}

/** The path by which the kernel finds it from the directory that is held open. */
function procPath({ directory, name }: Place): Buffer {
  return Buffer.from(`/proc/self/fd/${directory}/${name}`, 'latin1');
}

function pathOf({ above, name }: Place): Buffer {
  return Buffer.concat([above, Buffer.from(`/${name}`, 'latin1')]);
}

/** The order of the names' bytes. */
function byName(a: DirectoryEntry, b: DirectoryEntry): number {
  return a.name < b.name ? -1 : 1;
}

/** The contents of a file of the size that `status` says. */
function readSmall(fd: number, status: InodeStatus, at: Place): Uint8Array {
  const { size } = status;
  const buffer = new Uint8Array(size + 1);
  let used = 0;
  for (let count = 1; count > 0 && used <= size; used += count)
    count = readSync(fd, buffer, used, buffer.length - used, null);
  unchanged(status, statusOf(fd), () => pathOf(at));
  if (used !== size) throw changed(pathOf(at));
  return buffer.subarray(0, size);
}

const noBytes = new Uint8Array(0);
const noXattrs: readonly Xattr[] = [];
const epoch: Timestamp = { seconds: 0n, nanoseconds: 0 };

/**
 * The attributes that the filesystem lists, as mkcomposefs takes them: all, or those of users. One that is gone again is
 * left out: ctime tells.
 */
function readXattrs(holder: XattrHolder, which: 'all' | 'user'): readonly Xattr[] {
  const names = listXattrs(holder);
  if (names.length === 0) return noXattrs;
  return names.flatMap((bytes) => {
    const name = Buffer.from(bytes).toString('latin1');
    if (which === 'user' && !name.startsWith('user.')) return [];
    const value = getXattr(holder, bytes);
    return value === undefined ? [] : [{ name, value }];
  });
}

const changedWhileRead = 'it changed while it was read; try again when nothing writes there';

function changed(path: Buffer): ScanError {
  return new ScanError(path, changedWhileRead);
}

/** Throws ScanError where the two do not describe the same inode in the same state. */
function unchanged(before: InodeStatus, after: InodeStatus, path: () => Buffer): void {
  if (!before.isUnchanged(after)) throw changed(path());
}

/** The error with the path that it is about, where it is a system call's. */
function named(error: unknown, path: Buffer): unknown {
  const code = errorCode(error);
  if (error instanceof ScanError || code === undefined) return error;
  if (code === 'ENOENT')
    return new ScanError(path, 'it is not there, or vanished while it was read', { cause: error });
  // What a name that was a directory's, or a file's, says when it is something else by now.
  if (code === 'ELOOP' || code === 'ENXIO' || code === 'ENOTDIR')
    return new ScanError(path, changedWhileRead, { cause: error });
  return new ScanError(path, `it cannot be read (${code})`, { cause: error });
}
