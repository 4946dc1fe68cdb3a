import { closeSync, readSync } from 'node:fs';
import { openRegular } from '../store/objects.ts';
import { headBytes, recogniseFileSystem } from '../superblock/recognise.ts';
import type { FileSystem } from '../trust/file-system.ts';

/** The first bytes of the file at `path`, in which filesystems have their superblocks. Throws what openRegular throws. */
export function readHead(path: string): Uint8Array {
  const head = Buffer.alloc(headBytes);
  const fd = openRegular(path);
  try {
    return head.subarray(0, readSync(fd, head, 0, head.length, 0));
  } finally {
    closeSync(fd);
  }
}

/** Which filesystem the file at `path` looks like, or undefined. Throws what openRegular throws. */
export function fileSystemOfImage(path: string): FileSystem | undefined {
  return recogniseFileSystem(readHead(path));
}
