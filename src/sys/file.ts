import { fstatSync, readSync, writeSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';

import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { AT_FDCWD, binaryCString, cString, descriptorPath } from './path.ts';

// open(2), from asm-generic/fcntl.h; the four that arm64 has elsewhere are chosen below.
const arm = process.arch === 'arm64';
const O_WRONLY = 0o1;
const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_NOCTTY = 0o400;
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = arm ? 0o40000 : 0o200000;
const O_NOFOLLOW = arm ? 0o100000 : 0o400000;
const O_CLOEXEC = 0o2000000;
const O_PATH = 0o10000000;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;

const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;

const F_GETFL = 3;
const F_DUPFD_CLOEXEC = 1030;
const F_SETLEASE = 1024;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_RDLCK = 0;
const AT_SYMLINK_FOLLOW = 0x400;

/** How a file is opened; nothing given opens it for reading. Every descriptor is close-on-exec. */
export interface OpenOptions {
  /** For reading alone unless given. */
  readonly access?: 'read' | 'write' | 'read-write';
  /** O_PATH: a place in the tree, not a file that can be read. */
  readonly pathOnly?: boolean;
  /** O_DIRECTORY: ENOTDIR for anything else. */
  readonly directory?: boolean;
  /** O_NOFOLLOW: ELOOP where the last part is a symbolic link. */
  readonly noFollow?: boolean;
  /**
   * O_NONBLOCK: opening a FIFO does not wait, and where somebody holds a write lease on the file it fails with EAGAIN
   * at once instead of waiting for 45 s.
   */
  readonly nonBlocking?: boolean;
  /** Creates the file with this mode; EEXIST where there is one. */
  readonly createMode?: number;
}

function openFlags(options: OpenOptions): number {
  const access = { read: 0, write: O_WRONLY, 'read-write': O_RDWR }[options.access ?? 'read'];
  return (
    access |
    O_CLOEXEC |
    (options.pathOnly === true ? O_PATH : O_NOCTTY) |
    (options.directory === true ? O_DIRECTORY : 0) |
    (options.noFollow === true ? O_NOFOLLOW : 0) |
    (options.nonBlocking === true ? O_NONBLOCK : 0) |
    (options.createMode === undefined ? 0 : O_CREAT | O_EXCL)
  );
}

function show(path: string | Uint8Array): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString();
}

/** Opens `path` (open(2)), text or bytes. Throws SyscallError. */
export function openFile(path: string | Uint8Array, options: OpenOptions = {}): OwnedFd {
  const fd = ffi.openat(AT_FDCWD, cString(path), openFlags(options), options.createMode ?? 0);
  return new OwnedFd(check('openat', fd, show(path)));
}

/** Opens the name `name`, a binary string, in the directory `dirFd` (openat(2)). Throws SyscallError. */
export function openAt(dirFd: number, name: string, options: OpenOptions = {}): OwnedFd {
  const fd = ffi.openat(dirFd, binaryCString(name), openFlags(options), 0);
  if (fd < 0) throw new SyscallError('openat', lastErrnoName(), Buffer.from(name, 'latin1').toString());
  return new OwnedFd(fd);
}

/** What openBeneath keeps to, beyond staying beneath its directory and following no magic links. */
export interface BeneathOptions extends OpenOptions {
  /** Follows symbolic links that stay beneath the directory; else any is ELOOP. */
  readonly followSymlinks?: boolean;
}

const how = ffi.allocate(24);

/**
 * Opens the relative `path` beneath the directory `dirFd`, which it cannot leave (openat2(2) with RESOLVE_BENEATH
 * and RESOLVE_NO_MAGICLINKS). Throws SyscallError: EXDEV for a path that leaves, ELOOP for a symbolic link.
 */
export function openBeneath(dirFd: number, path: string | Uint8Array, options: BeneathOptions = {}): OwnedFd {
  const resolve =
    RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (options.followSymlinks === true ? 0 : RESOLVE_NO_SYMLINKS);
  const text = cString(path);
  // EAGAIN: a name was moved somewhere while the kernel looked, and it cannot tell whether the path left the directory.
  for (let attempt = 1; ; attempt++) {
    // The upper halves stay zero.
    how.writeUInt32LE(openFlags(options), 0);
    how.writeUInt32LE(options.createMode ?? 0, 8);
    how.writeUInt32LE(resolve, 16);
    const fd = ffi.openat2(437, dirFd, text, how, how.length);
    if (fd >= 0) return new OwnedFd(fd);
    const code = lastErrnoName();
    // With O_NONBLOCK it may also be a lease, which the caller wants to hear of.
    if (code !== 'EAGAIN' || attempt >= 8) throw new SyscallError('openat2', code, show(path));
  }
}

/** fstat(2), with bigints for what may not fit a number. */
export function fstat(fd: number): BigIntStats {
  return named('fstat', () => fstatSync(fd, { bigint: true }));
}

/**
 * Reads into `into` from `position` (bytes into the file), as much as there is: fewer bytes only at the end of the file.
 */
export function pread(fd: number, into: Uint8Array, position: number): number {
  let done = 0;
  while (done < into.length) {
    const count = named('pread', () => readSync(fd, into, done, into.length - done, position + done));
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Writes all of `bytes` at the descriptor's own position, or from `position` (bytes into the file) on. */
export function writeAll(fd: number, bytes: Uint8Array, position?: number): void {
  for (let done = 0; done < bytes.length;) {
    const from = done;
    const at = position === undefined ? null : position + from;
    done += named('write', () => writeSync(fd, bytes, from, bytes.length - from, at));
  }
}

// node:fs says errors in its own way; here they get the same name as all others.
function named<Result>(syscall: string, call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    const code =
      error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
    if (code === undefined) throw error;
    throw new SyscallError(syscall, code);
  }
}

const copyChunkBytes = 1024 * 1024;

/**
 * Copies `from`, from its beginning to its end, to the descriptor `to`, and shows every chunk to `onChunk` on the way,
 * so that what was hashed is what was written. Answers how many bytes; throws SyscallError with code EFBIG once it is
 * more than `bytesMax`.
 */
export function copyContent(
  from: number,
  to: number,
  options: { bytesMax: number; onChunk?: (chunk: Uint8Array) => void },
): number {
  const buffer = Buffer.allocUnsafeSlow(copyChunkBytes);
  let total = 0;
  for (;;) {
    const count = pread(from, buffer, total);
    if (count === 0) return total;
    total += count;
    if (total > options.bytesMax)
      throw new SyscallError('write', 'EFBIG', `more than ${options.bytesMax} bytes`);
    const chunk = buffer.subarray(0, count);
    options.onChunk?.(chunk);
    writeAll(to, chunk);
    if (count < buffer.length) return total;
  }
}

/** The status flags of open(2) (F_GETFL), told apart as far as callers need them. */
export interface StatusFlags {
  readonly access: 'read' | 'write' | 'read-write';
  /** O_PATH: it cannot be read. */
  readonly pathOnly: boolean;
}

/** How `fd` was opened. Throws SyscallError. */
export function getFlags(fd: number): StatusFlags {
  const flags = check('fcntl', ffi.fcntl(fd, F_GETFL, 0));
  const access = (['read', 'write', 'read-write'] as const)[flags & 0o3];
  return { access: access ?? 'read-write', pathOnly: (flags & O_PATH) !== 0 };
}

/** A second descriptor of the same open file. */
export function duplicate(fd: number): OwnedFd {
  return new OwnedFd(check('fcntl', ffi.fcntl(fd, F_DUPFD_CLOEXEC, 3)));
}

/** The file of `fd` opened anew, through /proc: with a position and an access of its own. Throws SyscallError. */
export function reopen(fd: number, options: OpenOptions = {}): OwnedFd {
  return openFile(descriptorPath(fd), options);
}

/** A seal of a memfd (fcntl(2), F_ADD_SEALS): against more seals, shrinking, growing and writing. */
export type Seal = 'seal' | 'shrink' | 'grow' | 'write';
const sealBits: Record<Seal, number> = { seal: 1, shrink: 2, grow: 4, write: 8 };

/** The seals on `fd`, or undefined for what cannot have any (a file that is no memfd). */
export function getSeals(fd: number): ReadonlySet<Seal> | undefined {
  const bits = ffi.fcntl(fd, F_GET_SEALS, 0);
  if (bits < 0) {
    const code = lastErrnoName();
    if (code === 'EINVAL') return undefined;
    throw new SyscallError('fcntl', code);
  }
  return new Set((Object.keys(sealBits) as Seal[]).filter((seal) => (bits & sealBits[seal]) !== 0));
}

/** Adds `seals`. Throws SyscallError: EBUSY for a seal against writing while a writable mapping exists. */
export function addSeals(fd: number, seals: readonly Seal[]): void {
  const bits = seals.reduce((sum, seal) => sum | sealBits[seal], 0);
  check('fcntl', ffi.fcntl(fd, F_ADD_SEALS, bits));
}

/** An empty memfd that can be sealed, never executed (memfd_create(2)); `name` is for /proc alone. */
export function createMemfd(name: string): OwnedFd {
  const MFD_CLOEXEC = 1;
  const MFD_ALLOW_SEALING = 2;
  const MFD_NOEXEC_SEAL = 8;
  const fd = ffi.memfdCreate(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (fd >= 0) return new OwnedFd(fd);
  // COMPAT(6.3): kernels before MFD_NOEXEC_SEAL, which implies MFD_ALLOW_SEALING.
  return new OwnedFd(check('memfd_create', ffi.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)));
}

/**
 * A file without a name on the filesystem of directory `directory` (O_TMPFILE), open for reading and writing, mode
 * `mode`. It goes with its last descriptor unless linkTmpfile gives it a name.
 */
export function openTmpfile(directory: string | number, mode = 0o600): OwnedFd {
  const path = typeof directory === 'number' ? descriptorPath(directory) : directory;
  const fd = ffi.openat(AT_FDCWD, cString(path), O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
  return new OwnedFd(check('openat', fd, `a file without a name in ${path}`));
}

/** Gives the file of `fd` the name `path`. Answers false where that name exists. Throws SyscallError. */
export function linkTmpfile(fd: number, path: string): boolean {
  const from = cString(descriptorPath(fd));
  if (ffi.linkat(AT_FDCWD, from, AT_FDCWD, cString(path), AT_SYMLINK_FOLLOW) === 0) return true;
  const code = lastErrnoName();
  if (code === 'EEXIST') return false;
  throw new SyscallError('linkat', code, path);
}

/**
 * Whether nobody has the file of `fd` open for writing: a read lease is granted then (fcntl(2), F_SETLEASE), and
 * stays until `fd` is closed; an opener for writing waits or fails while it does. `fd` must be open for reading
 * alone. Throws SyscallError for files that take no leases. Whoever breaks the lease sends SIGIO, which ends a process that
 * does not listen for it.
 */
export function readLease(fd: number): boolean {
  if (ffi.fcntl(fd, F_SETLEASE, F_RDLCK) === 0) return true;
  const code = lastErrnoName();
  if (code === 'EAGAIN') return false;
  throw new SyscallError('fcntl', code, 'F_SETLEASE');
}

/**
 * Begins to write the contents of `fd` to the disk, without waiting (sync_file_range(2)). Where several files are begun before
 * the first is synchronized, a journal needs one commit for them all. Does nothing where the filesystem cannot.
 */
export function beginWriting(fd: number): void {
  const SYNC_FILE_RANGE_WRITE = 2;
  ffi.syncFileRange(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/**
 * Takes a lock on the file of `fd` (flock(2)), exclusive unless shared is asked for, kept until every descriptor of this
 * open file is closed; false where another open file holds one that does not go with it, unless told to `wait` until that is
 * given up. Throws SyscallError.
 */
export function lockFile(
  fd: number,
  kind: 'exclusive' | 'shared' = 'exclusive',
  patience: 'none' | 'wait' = 'none',
): boolean {
  const LOCK_SH = 1;
  const LOCK_EX = 2;
  const LOCK_NB = 4;
  const operation = (kind === 'shared' ? LOCK_SH : LOCK_EX) | (patience === 'wait' ? 0 : LOCK_NB);
  let code = '';
  do {
    if (ffi.flock(fd, operation) === 0) return true;
    code = lastErrnoName();
  } while (code === 'EINTR');
  if (code === 'EAGAIN') return false;
  throw new SyscallError('flock', code);
}

const fileSystemStatus = ffi.allocate(120);

/** Filesystem magic numbers (statfs(2)) that are told apart somewhere. */
export const fileSystemMagics = {
  ext4: 0xef53,
  btrfs: 0x9123683e,
  f2fs: 0xf2f52010,
  xfs: 0x58465342,
  tmpfs: 0x01021994,
  overlay: 0x794c7630,
  erofs: 0xe0f5e1e2,
} as const;

/**
 * f_type of the filesystem of `fd` (fstatfs(2)): the kernel fills it in, not a FUSE server, but it asks the server all the same,
 * which may never answer.
 */
export function fileSystemMagic(fd: number): number {
  check('fstatfs', ffi.fstatfs(fd, fileSystemStatus));
  return fileSystemStatus.readUInt32LE(0);
}

/** Whether `error` says that there is nothing at a path. */
export function isMissing(error: unknown): boolean {
  return isSyscallError(error, 'ENOENT', 'ENOTDIR');
}
