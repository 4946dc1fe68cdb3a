import { SyscallError } from './errno.ts';
import { pread } from './file.ts';

/** A file that is read piece by piece. */
export interface FileSource {
  /** Its size in bytes. */
  readonly bytes: number;
  /** The `length` bytes from `offset` on. Throws SyscallError: EIO where the file ends before. */
  read(offset: number, length: number): Uint8Array;
}

/** The file of `fd`, which has `bytes` bytes and stays its owner's. */
export function fileSource(fd: number, bytes: number): FileSource {
  const read = (offset: number, length: number): Uint8Array => {
    const into = Buffer.allocUnsafeSlow(length);
    for (let have = 0; have < length;) {
      const got = pread(fd, into.subarray(have), offset + have);
      if (got === 0) throw new SyscallError('pread', 'EIO', `the file ends at byte ${offset + have}`);
      have += got;
    }
    return into;
  };
  return { bytes, read };
}
