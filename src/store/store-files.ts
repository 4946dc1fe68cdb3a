import { readdirSync } from 'node:fs';

import { isUnfinished } from './unfinished-file.ts';

/**
 * The relative paths (`ab/cdef…`) of everything in a store's two-digit folders, and of whatever else lies there, sorted
 * by folder; without files that are being written. Names that are not UTF-8 come with their bytes replaced.
 */
export function* storeFiles(path: string): Generator<string, void, undefined> {
  for (const folder of sortedEntries(path)) {
    if (!folder.isDirectory()) {
      if (!isUnfinished(folder.name)) yield folder.name;
      continue;
    }
    for (const entry of sortedEntries(`${path}/${folder.name}`)) yield `${folder.name}/${entry.name}`;
  }
}

function sortedEntries(path: string): { name: string; isDirectory(): boolean }[] {
  return readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
}
