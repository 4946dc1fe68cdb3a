import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fsync,
  fsyncSync,
  linkSync,
  open,
  openSync,
  renameSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { beginWriting, linkTmpfile } from '../sys/file.ts';
import { enableVerity } from '../sys/verity.ts';

const synchronize = promisify(fsync);
// Not a synchronous call: on ext4, making an inode waits while the journal is being written.
const openFile = promisify(open);

/** open(2): a file without a name. Node has no constant for it; the bit is the same on every architecture it runs on. */
const O_TMPFILE = 0o20_000_000 | constants.O_DIRECTORY;

/** How names of files begin that are being written; whoever reads a store or an image directory passes over them. */
export const unfinishedPrefix = '.tmp-';

/**
 * A file that is being written below a directory. It has no name of its own (O_TMPFILE), or one that begins with
 * `unfinishedPrefix` where the filesystem cannot do that, until `publish` or `replace` gives it one; disposing of it
 * before leaves nothing behind. Errors of the system calls are thrown as they come.
 */
export class UnfinishedFile implements Disposable {
  #fd: number;
  #temporaryPath: string | undefined;

  private constructor(fd: number, temporaryPath: string | undefined) {
    this.#fd = fd;
    this.#temporaryPath = temporaryPath;
  }

  /** A new empty file in `directory`, open for reading and writing, readable by its owner only until it is finished. */
  static async create(directory: string): Promise<UnfinishedFile> {
    try {
      return new UnfinishedFile(await openFile(directory, O_TMPFILE | constants.O_RDWR, 0o600), undefined);
    } catch (error) {
      // Filesystems without O_TMPFILE (NFS, 9p, some FUSE servers) say EOPNOTSUPP; kernels without it see a directory
      // that is opened for writing (EISDIR).
      const code = errorCode(error);
      if (code !== 'EOPNOTSUPP' && code !== 'ENOTSUP' && code !== 'EISDIR') throw error;
    }
    const path = temporaryName(directory);
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    return new UnfinishedFile(await openFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), path);
  }

  /** Takes over a descriptor, open for reading alone, of a file that was made without a name (O_TMPFILE) and is written. */
  static adopt(fd: number): UnfinishedFile {
    return new UnfinishedFile(fd, undefined);
  }

  /** The descriptor, which stays this object's. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * Sets the mode, brings the contents to the disk, and with `verity` makes the file immutable by fs-verity where the
   * filesystem has it. The descriptor is open for reading only from here on.
   */
  async finish(mode: number, verity: boolean): Promise<void> {
    fchmodSync(this.#fd, mode);
    await synchronize(this.#fd);
    this.#freeze(verity);
  }

  /**
   * The first half of what `finish` does, without waiting for the disk: where several files have begun before the first is
   * waited for, a journal needs one commit for them all, and not one for each.
   */
  beginFinish(mode: number): void {
    fchmodSync(this.#fd, mode);
    beginWriting(this.#fd);
  }

  /** The second half, for a thread that has nothing else to do meanwhile. */
  endFinish(verity: boolean): void {
    fsyncSync(this.#fd);
    this.#freeze(verity);
  }

  #freeze(verity: boolean): void {
    // FS_IOC_ENABLE_VERITY is ETXTBSY while any descriptor is open for writing (Documentation/filesystems/fsverity.rst).
    const readable = openSync(`/proc/self/fd/${this.#fd}`, constants.O_RDONLY);
    closeSync(this.#fd);
    this.#fd = readable;
    if (verity) enableVerity(readable);
  }

  /** Gives the file the name `path` unless there is one already: then `exists`, and what is there stays. */
  publish(path: string): 'new' | 'exists' {
    if (this.#temporaryPath === undefined) return linkTmpfile(this.#fd, path) ? 'new' : 'exists';
    try {
      linkSync(this.#temporaryPath, path);
      return 'new';
    } catch (error) {
      if (errorCode(error) === 'EEXIST') return 'exists';
      throw error;
    }
  }

  /** Gives the file the name `path`, in place of what has that name. Both are in the same directory. */
  replace(path: string): void {
    let temporary = this.#temporaryPath;
    if (temporary === undefined) {
      temporary = temporaryName(dirname(path));
      if (!linkTmpfile(this.#fd, temporary)) throw new Error(`a random name was taken: ${temporary}`);
      this.#temporaryPath = temporary;
    }
    renameSync(temporary, path);
    this.#temporaryPath = undefined;
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    if (this.#temporaryPath !== undefined) unlinkSync(this.#temporaryPath);
    this.#temporaryPath = undefined;
  }
}

/** Whether a file's name says that it is one that is being written, or was when its writer died. */
export function isUnfinished(path: string): boolean {
  return basename(path).startsWith(unfinishedPrefix);
}

/** Brings a directory's entries to the disk. */
export async function synchronizeDirectory(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await synchronize(fd);
  } finally {
    closeSync(fd);
  }
}

/** The name of a failed system call's error (`ENOENT`), or undefined for what is none. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return error.code;
}

function temporaryName(directory: string): string {
  return join(directory, unfinishedPrefix + randomBytes(9).toString('hex'));
}
