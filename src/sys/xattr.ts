import { lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { cString } from './path.ts';

// The kernel's limits of one list and of one value: XATTR_LIST_MAX and XATTR_SIZE_MAX (linux/limits.h).
const bytesMax = 65536;
let room: Buffer | undefined;

/**
 * Names of the extended attributes of what is at `path`, a symbolic link not followed (llistxattr(2)); none where the
 * filesystem has no such thing. Throws SyscallError.
 */
export function listXattrs(path: Uint8Array): Uint8Array[] {
  room ??= ffi.allocate(bytesMax);
  const bytes = ffi.llistxattr(cString(path), room, room.length);
  if (bytes < 0) {
    const code = lastErrnoName();
    if (code === 'EOPNOTSUPP') return [];
    throw new SyscallError('llistxattr', code, Buffer.from(path).toString());
  }
  const names: Uint8Array[] = [];
  for (let start = 0; start < bytes;) {
    const end = room.indexOf(0, start);
    names.push(new Uint8Array(room.subarray(start, end)));
    start = end + 1;
  }
  return names;
}

/** The value of extended attribute `name` of what is at `path` (lgetxattr(2)), or undefined where it is gone. */
export function getXattr(path: Uint8Array, name: Uint8Array): Uint8Array | undefined {
  room ??= ffi.allocate(bytesMax);
  const bytes = ffi.lgetxattr(cString(path), cString(name), room, room.length);
  if (bytes < 0) {
    const code = lastErrnoName();
    if (code === 'ENODATA') return undefined;
    throw new SyscallError('lgetxattr', code, Buffer.from(path).toString());
  }
  return new Uint8Array(room.subarray(0, bytes));
}
