import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
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
