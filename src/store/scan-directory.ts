import type { BigIntStats } from 'node:fs';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';

import type {
  Directory,
  Entry,
  InodeAttributes,
  NonDirectory,
  RegularFile,
  Timestamp,
  Tree,
  Xattr,
} from '../composefs/tree.ts';
import type { Digest } from '../base/digest.ts';
import { inlineFileBytesMax } from '../composefs/write.ts';
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
  /** Inodes with several names on this machine, by `dev:ino`. */
  readonly #linked = new Map<string, Mutable<NonDirectory>>();
  readonly #outside: BigIntStats | undefined;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#slots = new Slots(options.filesAtOnce ?? filesAtOnceDefault);
    if (options.outside !== undefined)
      this.#outside = lstatSync(options.outside, { bigint: true, throwIfNoEntry: false });
  }

  finish(): Promise<void> {
    return this.#slots.finish();
  }

  settle(): Promise<void> {
    return this.#slots.settle();
  }

  /** Reads the directory that is open as `fd`; `path` is for messages, `inside` its path below the source. */
  async directory(fd: number, path: Buffer, inside: string): Promise<Directory> {
    const before = fstatSync(fd, { bigint: true });
    if (this.#outside?.dev === before.dev && this.#outside.ino === before.ino)
      throw new ScanError(
        path,
        'the object store may not be inside the directory that an image is built from',
      );
    const here = Buffer.from(`/proc/self/fd/${fd}/`);
    const directory: Directory = {
      type: 'directory',
      ...this.#attributes(before, Buffer.concat([here, Buffer.from('.')])),
      entries: new Map(),
    };
    const names = readdirSync(here, { encoding: 'buffer' }).sort((a, b) => Buffer.compare(a, b));
    for (const name of names) {
      const entryName = name.toString('latin1');
      const entryInside = inside === '' ? entryName : `${inside}/${entryName}`;
      if (this.#options.exclude?.has(entryInside) === true) continue;
      const entryPath = Buffer.concat([path, slash, name]);
      try {
        const entry = await this.#entry(Buffer.concat([here, name]), entryPath, entryInside);
        if (entry !== undefined) directory.entries.set(entryName, entry);
      } catch (error) {
        throw named(error, entryPath);
      }
    }
    unchanged(before, fstatSync(fd, { bigint: true }), path);
    return directory;
  }

  /** What the name stands for; undefined where it is left out. */
  async #entry(at: Buffer, path: Buffer, inside: string): Promise<Entry | undefined> {
    const status = lstatSync(at, { bigint: true });
    if (status.isDirectory()) return this.#subdirectory(at, status, path, inside);
    if (this.#options.skipDevices === true && (status.isCharacterDevice() || status.isBlockDevice()))
      return undefined;
    if (status.nlink === 1n) return this.#nonDirectory(at, status, path);
    const key = `${status.dev}:${status.ino}`;
    const known = this.#linked.get(key);
    if (known !== undefined) {
      known.nlink++;
      return { type: 'link', target: known };
    }
    const inode = await this.#nonDirectory(at, status, path);
    this.#linked.set(key, inode);
    return inode;
  }

  async #subdirectory(at: Buffer, status: BigIntStats, path: Buffer, inside: string): Promise<Directory> {
    const fd = openSame(at, status, constants.O_DIRECTORY, path);
    try {
      return await this.directory(fd, path, inside);
    } finally {
      closeSync(fd);
    }
  }

  async #nonDirectory(at: Buffer, status: BigIntStats, path: Buffer): Promise<Mutable<NonDirectory>> {
    if (status.isFile()) return this.#file(at, status, path);
    const base = { ...this.#attributes(status, at), nlink: 1 };
    let inode: NonDirectory;
    if (status.isSymbolicLink()) {
      const target = readlinkSync(at, { encoding: 'buffer' });
      inode = { type: 'symlink', target: target.toString('latin1'), ...base };
    } else if (status.isFIFO()) inode = { type: 'fifo', ...base };
    else if (status.isSocket()) inode = { type: 'socket', ...base };
    else {
      const rdev = Number(BigInt.asUintN(32, status.rdev));
      inode = { type: status.isCharacterDevice() ? 'character' : 'block', rdev, ...base };
    }
    unchanged(status, lstatSync(at, { bigint: true }), path);
    return inode;
  }

  async #file(at: Buffer, status: BigIntStats, path: Buffer): Promise<Mutable<RegularFile>> {
    const base = { type: 'file', ...this.#attributes(status, at), nlink: 1 } as const;
    const size = Number(status.size);
    if (size === 0) {
      unchanged(status, lstatSync(at, { bigint: true }), path);
      return { ...base, size, content: { kind: 'inline', bytes: new Uint8Array() } };
    }
    if (size <= inlineFileBytesMax)
      return { ...base, size, content: { kind: 'inline', bytes: readSmall(at, status, path) } };
    // The digest comes later; the inode has its place in the tree before.
    const content: { kind: 'external'; path: string | undefined; digest: Digest | undefined } = {
      kind: 'external',
      path: undefined,
      digest: undefined,
    };
    await this.#slots.free();
    const fd = openSame(at, status, 0, path);
    this.#slots.begin(async () => {
      const digest = await this.#keep(fd, status, path);
      content.digest = digest;
      content.path = objectPath(digest);
    });
    return { ...base, size, content };
  }

  /** Keeps the contents of the file that is open as `fd`, and closes it. */
  async #keep(fd: number, status: BigIntStats, path: Buffer): Promise<Digest> {
    try {
      const { digest, bytes } = await this.#options.keep(fd, Number(status.size));
      unchanged(status, fstatSync(fd, { bigint: true }), path);
      if (BigInt(bytes) !== status.size) throw changed(path);
      return digest;
    } catch (error) {
      const code = errorCode(error);
      if (code === undefined) throw error;
      throw new ScanError(path, `it cannot be copied into the store (${code})`, { cause: error });
    } finally {
      closeSync(fd);
    }
  }

  #attributes(status: BigIntStats, at: Buffer): InodeAttributes {
    const { useEpoch, xattrs = 'all' } = this.#options;
    return {
      mode: Number(status.mode & 0o7777n),
      uid: this.#options.owner?.uid ?? Number(status.uid),
      gid: this.#options.owner?.gid ?? Number(status.gid),
      mtime: useEpoch === true ? epoch : timestamp(status.mtimeNs),
      xattrs: xattrs === 'none' ? noXattrs : readXattrs(at, xattrs),
    };
  }
}

/** Opens what `status` describes for reading; throws ScanError where something else has its name by now. */
function openSame(at: Buffer, status: BigIntStats, flags: number, path: Buffer): number {
  // O_NOFOLLOW and O_NONBLOCK: a link or a named pipe put in its place is neither followed nor waited for.
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const fd = openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | flags);
  try {
    unchanged(status, fstatSync(fd, { bigint: true }), path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The contents of a file of the size that `status` says. */
function readSmall(at: Buffer, status: BigIntStats, path: Buffer): Uint8Array {
  const fd = openSame(at, status, 0, path);
  try {
    const size = Number(status.size);
    const buffer = new Uint8Array(size + 1);
    let used = 0;
    for (let count = 1; count > 0 && used <= size; used += count)
      count = readSync(fd, buffer, used, buffer.length - used, null);
    unchanged(status, fstatSync(fd, { bigint: true }), path);
    if (used !== size) throw changed(path);
    return buffer.subarray(0, size);
  } finally {
    closeSync(fd);
  }
}

const slash = Buffer.from('/');
const noXattrs: readonly Xattr[] = [];
const epoch: Timestamp = { seconds: 0n, nanoseconds: 0 };

function timestamp(nanoseconds: bigint): Timestamp {
  const seconds = nanoseconds / 1_000_000_000n - (nanoseconds % 1_000_000_000n < 0n ? 1n : 0n);
  return { seconds, nanoseconds: Number(nanoseconds - seconds * 1_000_000_000n) };
}

/**
 * The attributes that the filesystem lists, as mkcomposefs takes them: all, or those of users. One that is gone again is
 * left out: ctime tells.
 */
function readXattrs(at: Buffer, which: 'all' | 'user'): readonly Xattr[] {
  const names = listXattrs(at);
  if (names.length === 0) return noXattrs;
  return names.flatMap((bytes) => {
    const name = Buffer.from(bytes).toString('latin1');
    if (which === 'user' && !name.startsWith('user.')) return [];
    const value = getXattr(at, bytes);
    return value === undefined ? [] : [{ name, value }];
  });
}

const changedWhileRead = 'it changed while it was read; try again when nothing writes there';

function changed(path: Buffer): ScanError {
  return new ScanError(path, changedWhileRead);
}

/** Throws ScanError where the two do not describe the same inode in the same state. Reading leaves ctime alone. */
function unchanged(before: BigIntStats, after: BigIntStats, path: Buffer): void {
  const same =
    before.dev === after.dev &&
    before.ino === after.ino &&
    before.mode === after.mode &&
    before.size === after.size &&
    before.mtimeNs === after.mtimeNs &&
    before.ctimeNs === after.ctimeNs;
  if (!same) throw changed(path);
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
