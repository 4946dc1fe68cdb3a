import { closeSync, fstatSync } from 'node:fs';
import type { ByteSource } from '../base/byte-source.ts';
import { openRegular } from '../store/objects.ts';
import { fileSource } from '../sys/file-source.ts';

/** What `use` makes of the file at `path`, read piece by piece. Throws what it throws, and SyscallError. */
export function withDiskSource<Result>(path: string, use: (source: ByteSource) => Result): Result {
  const fd = openRegular(path);
  try {
    return use(fileSource(fd, fstatSync(fd).size));
  } finally {
    closeSync(fd);
  }
}
