import { lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { cString } from './path.ts';

// The kernel's limits of one list and of one value: XATTR_LIST_MAX and XATTR_SIZE_MAX (linux/limits.h).
const bytesMax = 65536;
let room: Buffer | undefined;

/** Whose attributes: those of what is at a path, a symbolic link not followed, or of an open file. */
export type XattrHolder = Uint8Array | number;

function shown(holder: XattrHolder): string {
  return typeof holder === 'number' ? '' : Buffer.from(holder).toString();
}

/**
 * Names of the extended attributes of `holder` (llistxattr(2), flistxattr(2)); none where the filesystem has no such
 * thing. Throws SyscallError.
 */
export function listXattrs(holder: XattrHolder): Uint8Array[] {
  room ??= ffi.allocate(bytesMax);
  const bytes =
    typeof holder === 'number'
      ? ffi.flistxattr(holder, room, room.length)
      : ffi.llistxattr(cString(holder), room, room.length);
  if (bytes < 0) {
    const code = lastErrnoName();
    if (code === 'EOPNOTSUPP') return [];
    throw new SyscallError('listxattr', code, shown(holder));
  }
  const names: Uint8Array[] = [];
  for (let start = 0; start < bytes;) {
    const end = room.indexOf(0, start);
    names.push(new Uint8Array(room.subarray(start, end)));
    start = end + 1;
  }
  return names;
}

/** The value of its attribute `name` (lgetxattr(2), fgetxattr(2)), or undefined where it is gone. Throws SyscallError. */
export function getXattr(holder: XattrHolder, name: Uint8Array): Uint8Array | undefined {
  room ??= ffi.allocate(bytesMax);
  const bytes =
    typeof holder === 'number'
      ? ffi.fgetxattr(holder, cString(name), room, room.length)
      : ffi.lgetxattr(cString(holder), cString(name), room, room.length);
  if (bytes < 0) {
    const code = lastErrnoName();
    if (code === 'ENODATA') return undefined;
    throw new SyscallError('getxattr', code, shown(holder));
  }
  return new Uint8Array(room.subarray(0, bytes));
}
