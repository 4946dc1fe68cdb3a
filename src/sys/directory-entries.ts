import { check } from './errno.ts';
import * as ffi from './ffi.ts';

/** A name in a directory, `.` and `..` left out. */
export interface DirectoryEntry {
  /** A binary string: each character is one byte. */
  readonly name: string;
  /** The type bits of st_mode; 0 where the filesystem does not tell (DT_UNKNOWN). */
  readonly type: number;
}

// struct linux_dirent64 (getdents64(2)): d_ino, d_off, d_reclen, d_type, d_name.
const lengthOffset = 16;
const typeOffset = 18;
const nameOffset = 19;
/** d_type is the type bits of st_mode, shifted (IFTODT). */
const typeShift = 12;

/** As much as the C library takes: thousands of names of usual length in one call. */
const roomBytes = 32768;
let room: Buffer | undefined;

/**
 * What the directory `fd`, open for reading, holds from its position on, in the filesystem's order (getdents64(2)). Throws
 * SyscallError.
 */
export function readEntries(fd: number): DirectoryEntry[] {
  room ??= ffi.allocate(roomBytes);
  const entries: DirectoryEntry[] = [];
  for (;;) {
    const bytes = check('getdents64', ffi.getdents64(fd, room, room.length));
    if (bytes === 0) return entries;
    for (let start = 0; start < bytes; start += room.readUInt16LE(start + lengthOffset)) {
      const name = room.toString('latin1', start + nameOffset, room.indexOf(0, start + nameOffset));
      if (name !== '.' && name !== '..')
        entries.push({ name, type: room.readUInt8(start + typeOffset) << typeShift });
    }
  }
}
