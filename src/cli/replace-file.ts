import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { OwnedFd } from '../sys/fd.ts';
import { lockFile } from '../sys/file.ts';
import { withPath } from './input-file.ts';

/**
 * Writes `bytes` to the file at `path` in one step: whoever reads it meanwhile, and after a crash, sees the old
 * file or the new one. Throws CommandError.
 */
export function replaceFile(path: string, bytes: Uint8Array, mode = 0o644): void {
  const temporary = `${path}.${process.pid}.tmp`;
  withPath(path, () => {
    try {
      writeFileSync(temporary, bytes, { flag: 'wx', mode, flush: true });
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    const folder = openSync(dirname(path), 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  });
}

/**
 * As replaceFile, unless `changed` says that the file is not what it was; false then. Whoever replaces a file of the same folder
 * so waits meanwhile (flock(2) on the folder): nobody writes between the look and the replacement. Throws CommandError.
 */
export function replaceFileUnless(path: string, bytes: Uint8Array, changed: () => boolean): boolean {
  const folder = withPath(path, () => new OwnedFd(openSync(dirname(path), 'r')));
  try {
    lockFile(folder.number, 'exclusive', 'wait');
    if (changed()) return false;
    replaceFile(path, bytes);
    return true;
  } finally {
    folder.close();
  }
}
