import { check, lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { AT_FDCWD, binaryCString, cString, emptyPath } from './path.ts';

// statx(2), linux/stat.h: offsets in struct statx, in units of the views below.
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const statxBytes = 256;

const S_IFMT = 0o170000;

const room = ffi.allocate(statxBytes);
const words = new Uint32Array(room.buffer, room.byteOffset, statxBytes / 4);

function word(index: number): number {
  return words[index] ?? 0;
}

/** 64 bits in two words, for which a number is not exact and a bigint would have to be made each time. */
function bigintOf(low: number, high: number): bigint {
  return high === 0 ? BigInt(low) : BigInt(high) * 2n ** 32n + BigInt(low);
}

export type { InodeStatus };

/** What an inode is and the state that it is in, as the last call of statx(2) wrote it. Numbers are exact below 2^53. Times are of the real-time clock. */
class InodeStatus {
  /** st_mode, type and permissions. */
  readonly mode: number = word(7) & 0xffff;
  readonly nlink: number = word(4);
  readonly uid: number = word(5);
  readonly gid: number = word(6);
  readonly size: number = word(10) + word(11) * 2 ** 32;
  readonly devMajor: number = word(34);
  readonly devMinor: number = word(35);
  readonly mtimeNanoseconds: number = word(30);
  readonly #rdevMajor = word(32);
  readonly #rdevMinor = word(33);
  readonly #inoLow = word(8);
  readonly #inoHigh = word(9);
  readonly #mtimeLow = word(28);
  readonly #mtimeHigh = word(29);
  readonly #ctimeLow = word(24);
  readonly #ctimeHigh = word(25);
  readonly #ctimeNanoseconds = word(26);

  /** The low 32 bits of st_rdev, as the C library puts it together. */
  get rdev(): number {
    const [major, minor] = [this.#rdevMajor, this.#rdevMinor];
    return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
  }

  get mtimeSeconds(): bigint {
    return bigintOf(this.#mtimeLow, this.#mtimeHigh | 0);
  }

  /** The same for no two inodes that exist at one time. */
  get inode(): string {
    return `${this.devMajor}:${this.devMinor}:${bigintOf(this.#inoLow, this.#inoHigh)}`;
  }

  /** Whether `other` is of the same inode. */
  isSame(other: InodeStatus): boolean {
    return (
      this.#inoLow === other.#inoLow &&
      this.#inoHigh === other.#inoHigh &&
      this.devMajor === other.devMajor &&
      this.devMinor === other.devMinor
    );
  }

  /** Whether `other` is of the same inode, and nothing has changed in between: ctime tells, which reading leaves alone. */
  isUnchanged(other: InodeStatus): boolean {
    return (
      this.isSame(other) &&
      this.mode === other.mode &&
      this.size === other.size &&
      this.#mtimeLow === other.#mtimeLow &&
      this.#mtimeHigh === other.#mtimeHigh &&
      this.mtimeNanoseconds === other.mtimeNanoseconds &&
      this.#ctimeLow === other.#ctimeLow &&
      this.#ctimeHigh === other.#ctimeHigh &&
      this.#ctimeNanoseconds === other.#ctimeNanoseconds
    );
  }
}

/** A type of file, by st_mode. */
export function isType(status: InodeStatus, type: number): boolean {
  return (status.mode & S_IFMT) === type;
}

/** What the descriptor `fd` refers to. Throws SyscallError. */
export function statusOf(fd: number): InodeStatus {
  check('statx', ffi.statx(fd, emptyPath, AT_EMPTY_PATH, STATX_BASIC_STATS, room));
  return new InodeStatus();
}

/**
 * What has the name `name`, a binary string, in the directory `dirFd`; a symbolic link is not followed. Throws
 * SyscallError.
 */
export function statusAt(dirFd: number, name: string): InodeStatus {
  check('statx', ffi.statx(dirFd, binaryCString(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, room));
  return new InodeStatus();
}

/** What is at `path`, symbolic links followed; undefined where nothing is. Throws SyscallError. */
export function statusWherePresent(path: string): InodeStatus | undefined {
  if (ffi.statx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS, room) === 0) return new InodeStatus();
  const code = lastErrnoName();
  if (code === 'ENOENT') return undefined;
  throw new SyscallError('statx', code, path);
}
