import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

import { errorCode } from './unfinished-file.ts';

/**
 * Makes a directory, mode 0755, and those above it that are missing; does nothing where `path` exists. Throws the
 * system call's error. (Node's own recursive mkdir never ends where a filesystem, such as proc, says ENOENT each time.)
 */
export function makeDirectory(path: string): void {
  try {
    makeWhereMissing(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    makeWhereMissing(path);
  }
}

function makeWhereMissing(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
}
