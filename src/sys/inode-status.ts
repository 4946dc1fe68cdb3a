import { check, lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { AT_FDCWD, cString, emptyPath } from './path.ts';

// statx(2), linux/stat.h: offsets in struct statx, in units of the views below.
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const statxBytes = 256;

const S_IFMT = 0o170000;

/** What an inode is and the state that it is in, as plain numbers; exact below 2^53. Times are of the real-time clock. */
export interface InodeStatus {
  /** st_mode, type and permissions. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** The low 32 bits of st_rdev, as the C library puts it together. */
  readonly rdev: number;
  readonly mtimeSeconds: bigint;
  readonly mtimeNanoseconds: number;
  /** The same for no two inodes that exist at one time. */
  readonly devMajor: number;
  readonly devMinor: number;
  readonly ino: bigint;
  readonly ctimeSeconds: bigint;
  readonly ctimeNanoseconds: number;
}

/** A type of file, by st_mode. */
export function isType(status: InodeStatus, type: number): boolean {
  return (status.mode & S_IFMT) === type;
}

const room = ffi.allocate(statxBytes);
const words = new Uint32Array(room.buffer, room.byteOffset, statxBytes / 4);
const seconds = new BigInt64Array(room.buffer, room.byteOffset, statxBytes / 8);
const numbers = new BigUint64Array(room.buffer, room.byteOffset, statxBytes / 8);

function word(index: number): number {
  return words[index] ?? 0;
}

function readRoom(): InodeStatus {
  const [rdevMajor, rdevMinor] = [word(32), word(33)];
  return {
    mode: word(7) & 0xffff,
    nlink: word(4),
    uid: word(5),
    gid: word(6),
    size: word(10) + word(11) * 2 ** 32,
    rdev: ((rdevMinor & 0xff) | ((rdevMajor & 0xfff) << 8) | ((rdevMinor & 0xfff00) << 12)) >>> 0,
    mtimeSeconds: seconds[14] ?? 0n,
    mtimeNanoseconds: word(30),
    devMajor: word(34),
    devMinor: word(35),
    ino: numbers[4] ?? 0n,
    ctimeSeconds: seconds[12] ?? 0n,
    ctimeNanoseconds: word(26),
  };
}

/** What the descriptor `fd` refers to. Throws SyscallError. */
export function statusOf(fd: number): InodeStatus {
  check('statx', ffi.statx(fd, emptyPath, AT_EMPTY_PATH, STATX_BASIC_STATS, room));
  return readRoom();
}

/** What has the name `name` in the directory `dirFd`; a symbolic link is not followed. Throws SyscallError. */
export function statusAt(dirFd: number, name: Uint8Array): InodeStatus {
  check('statx', ffi.statx(dirFd, cString(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, room));
  return readRoom();
}

/** What is at `path`, symbolic links followed; undefined where nothing is. Throws SyscallError. */
export function statusWherePresent(path: string): InodeStatus | undefined {
  if (ffi.statx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS, room) === 0) return readRoom();
  const code = lastErrnoName();
  if (code === 'ENOENT') return undefined;
  throw new SyscallError('statx', code, path);
}
