import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { AT_FDCWD, cString, descriptorPath, emptyPath } from './path.ts';

// The mount API of Linux 5.2 and later: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2),
// mount_setattr(2). Constants are those of linux/mount.h and linux/fcntl.h.

const CLOEXEC = 0x1;
const O_CLOEXEC = 0o2000000;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_SET_FD = 5;
const FSCONFIG_CMD_CREATE = 6;
const FSCONFIG_CMD_CREATE_EXCL = 8;
const OPEN_TREE_CLONE = 0x1;
const AT_EMPTY_PATH = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH = 0x4;
const MOUNT_ATTR_IDMAP = 0x10_0000;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** A new filesystem context. Throws SyscallError: ENODEV for a filesystem that the kernel does not have. */
export function fsopen(fileSystem: string): OwnedFd {
  return new OwnedFd(check('fsopen', ffi.fsopen(430, fileSystem, CLOEXEC), fileSystem));
}

/** Whether the kernel has the filesystem; asking loads its module, where it is one. */
export function hasFileSystem(fileSystem: string): boolean {
  try {
    fsopen(fileSystem).close();
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}

/** Sets option `key` of `context`, which has no value. Throws SyscallError with the kernel's own message. */
export function fsconfigFlag(context: number, key: string): void {
  if (ffi.fsconfigText(431, context, FSCONFIG_SET_FLAG, key, null, 0) < 0) {
    throw contextError('fsconfig', context, key);
  }
}

/** Sets option `key` of `context` to `value`. Throws SyscallError with the kernel's own message. */
export function fsconfigString(context: number, key: string, value: string): void {
  const result = ffi.fsconfigText(431, context, FSCONFIG_SET_STRING, key, value, 0);
  if (result < 0) throw contextError('fsconfig', context, `${key}=${value}`);
}

/** Sets option `key` of `context` to the descriptor `fd`, which the kernel duplicates. */
export function fsconfigFd(context: number, key: string, fd: number): void {
  if (ffi.fsconfigText(431, context, FSCONFIG_SET_FD, key, null, fd) < 0) {
    throw contextError('fsconfig', context, `${key} by descriptor`);
  }
}

/** Sets option `key` of `context` to the path by which this process reaches what `fd` refers to. */
export function fsconfigDescriptorPath(context: number, key: string, fd: number): void {
  fsconfigString(context, key, descriptorPath(fd));
}

/** Makes the superblock; it may be one that exists already (FSCONFIG_CMD_CREATE). */
export function fsconfigCreate(context: number): void {
  if (ffi.fsconfigText(431, context, FSCONFIG_CMD_CREATE, null, null, 0) < 0) {
    throw contextError('fsconfig', context, 'create');
  }
}

/** Makes a superblock that is certainly new (FSCONFIG_CMD_CREATE_EXCL, 6.6), EBUSY otherwise. */
export function fsconfigCreateExclusive(context: number): void {
  if (ffi.fsconfigText(431, context, FSCONFIG_CMD_CREATE_EXCL, null, null, 0) < 0) {
    throw contextError('fsconfig', context, 'create exclusively');
  }
}

/** A detached mount of the superblock of `context`, with MOUNT_ATTR_* bits `attributes`. */
export function fsmount(context: number, attributes: number): OwnedFd {
  const fd = ffi.fsmount(432, context, CLOEXEC, attributes);
  if (fd < 0) throw contextError('fsmount', context, 'mount');
  return new OwnedFd(fd);
}

const message = ffi.allocate(1024);
const messagesMax = 16;

// Every read from a context's descriptor gives one message, `e text`, `w text` or `i text`, and ENODATA after the last.
function contextError(syscall: string, context: number, about: string): SyscallError {
  const code = lastErrnoName();
  const texts: string[] = [];
  for (let count = 0; count < messagesMax; count++) {
    const bytes = ffi.read(context, message, message.length);
    if (bytes <= 0) break;
    texts.push(
      message
        .toString('utf8', 0, bytes)
        .replace(/^[ewi] /, '')
        .trimEnd(),
    );
  }
  return new SyscallError(syscall, code, [about, ...texts].join(': '));
}

/** Attaches the detached mount `mount` at `path`, in the mount namespace of this thread. */
export function moveMount(mount: number, path: string | Uint8Array): void {
  const result = ffi.moveMount(429, mount, emptyPath, AT_FDCWD, cString(path), MOVE_MOUNT_F_EMPTY_PATH);
  check('move_mount', result, typeof path === 'string' ? path : undefined);
}

/** Attaches `mount` onto the directory or file that the descriptor `target` refers to. */
export function moveMountOnto(mount: number, target: number): void {
  const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
  const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  check('move_mount', ffi.moveMount(429, mount, emptyPath, target, emptyPath, flags));
}

/**
 * A detached clone of the mount at `from` (a path, or a descriptor itself), its root the folder or file named, without the
 * mounts beneath. Throws
 * SyscallError: EINVAL for a mount of another mount namespace, a detached clone made there included.
 */
export function cloneTree(from: number | string | Uint8Array): OwnedFd {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC;
  const fd =
    typeof from === 'number'
      ? ffi.openTree(428, from, emptyPath, flags | AT_EMPTY_PATH)
      : ffi.openTree(428, AT_FDCWD, cString(from), flags);
  return new OwnedFd(check('open_tree', fd, typeof from === 'string' ? from : undefined));
}

/** What mount_setattr(2) changes: MOUNT_ATTR_* bits to set and to clear, and the user namespace of an ID-mapped mount. */
export interface AttributeChange {
  readonly set?: number;
  readonly clear?: number;
  readonly userNamespaceFd?: number;
}

const attributes = ffi.allocate(32);

/** Changes the attributes of the mount whose root `mount` is. Throws SyscallError: EPERM for what is locked. */
export function mountSetattr(mount: number, change: AttributeChange): void {
  const idmap = change.userNamespaceFd === undefined ? 0 : MOUNT_ATTR_IDMAP;
  attributes.writeBigUInt64LE(BigInt((change.set ?? 0) | idmap), 0);
  attributes.writeBigUInt64LE(BigInt(change.clear ?? 0), 8);
  attributes.writeBigUInt64LE(BigInt(change.userNamespaceFd ?? 0), 24);
  const result = ffi.mountSetattr(442, mount, emptyPath, AT_EMPTY_PATH, attributes, attributes.length);
  check('mount_setattr', result, idmap === 0 ? undefined : 'ID mapping');
}

/** Detaches the mount at `path` (umount2(2) with MNT_DETACH), following no symbolic link in its last part. */
export function umountDetach(path: string | Uint8Array): void {
  check('umount2', ffi.umount2(cString(path), MNT_DETACH | UMOUNT_NOFOLLOW), String(path));
}

/** Unmounts what is at `path`. Throws SyscallError: EBUSY while it is used, EINVAL where nothing is mounted. */
export function umount(path: string | Uint8Array): void {
  check('umount2', ffi.umount2(cString(path), UMOUNT_NOFOLLOW), String(path));
}
