import { readdirSync, statSync } from 'node:fs';
import type { Dirent } from 'node:fs';
import { join } from 'node:path';
import type { FoundObject } from '../client/client.ts';
import { inlineFileBytesMax } from '../composefs/write.ts';
import { objectPath } from '../store/objects.ts';
import { CommandError } from './command-error.ts';
import { fileErrorReason, measureFile, withPath } from './input-file.ts';
import { warn } from './output.ts';

/** Where objects are looked for. */
export interface ObjectSearch {
  /** A store (`DIR/ab/cdef…`), or any tree of files. */
  readonly directory: string;
  /** The sizes that objects can have, where they are known: files of other sizes are passed over. */
  readonly sizes: ReadonlySet<number> | undefined;
  /** Called after each file that was read, with how many there were and their bytes. */
  readonly onProgress: (files: number, bytes: number) => void;
}

/**
 * Finds files by what is in them: under their names in a store, and else by reading the files of the tree. Links are not followed
 * there. A file that cannot be read is warned of and left out. Throws CommandError for a directory that cannot be.
 */
export function findObjects(objects: readonly string[], search: ObjectSearch): Map<string, FoundObject> {
  const found = new Map<string, FoundObject>();
  const wanted = new Set<string>();
  withPath(search.directory, () => readdirSync(search.directory));
  for (const object of objects) {
    const path = join(search.directory, object);
    const status = statSync(path, { throwIfNoEntry: false });
    if (status?.isFile() === true) found.set(object, { path, bytes: status.size });
    else wanted.add(object);
  }
  let [files, bytesRead] = [0, 0];
  for (const { path, bytes } of wanted.size === 0 ? [] : filesBelow(search.directory)) {
    if (bytes <= inlineFileBytesMax || search.sizes?.has(bytes) === false) continue;
    const object = objectOf(path);
    if (object !== undefined && wanted.delete(object)) found.set(object, { path, bytes });
    files += 1;
    bytesRead += bytes;
    search.onProgress(files, bytesRead);
    if (wanted.size === 0) break;
  }
  return found;
}

/** The path in a store that a file's content would have. */
function objectOf(path: string): string | undefined {
  try {
    return objectPath(measureFile(path));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    warn(`${error.message}; it is left out`);
    return undefined;
  }
}

function* filesBelow(directory: string): Generator<FoundObject> {
  const folders = [directory];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of entriesOf(folder)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) folders.push(path);
      if (!entry.isFile()) continue;
      const status = statSync(path, { throwIfNoEntry: false });
      if (status?.isFile() === true) yield { path, bytes: status.size };
    }
  }
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    const reason = fileErrorReason(error);
    if (reason === undefined) throw error;
    warn(`${folder}: ${reason}; it is left out`);
    return [];
  }
}
