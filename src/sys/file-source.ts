import type { ByteSource } from '../base/byte-source.ts';
import { SyscallError } from './errno.ts';
import { pread } from './file.ts';

/** The file of `fd`, which has `bytes` bytes and stays its owner's. Reading throws SyscallError: EIO where the file ends before. */
export function fileSource(fd: number, bytes: number): ByteSource {
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
