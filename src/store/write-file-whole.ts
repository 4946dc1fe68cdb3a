import { writeSync } from 'node:fs';
import { dirname } from 'node:path';

import { synchronizeDirectory, UnfinishedFile } from './unfinished-file.ts';

/**
 * Writes `bytes` to the file `path`, in place of what may be there: other readers see the old file or the whole new
 * one. It is on the disk when this returns. With `verity` it is made immutable by fs-verity where the filesystem has it.
 */
export async function writeFileWhole(
  path: string,
  bytes: Uint8Array,
  options: { readonly verity: boolean },
): Promise<void> {
  const directory = dirname(path);
  using file = await UnfinishedFile.create(directory);
  for (let offset = 0; offset < bytes.length;) offset += writeSync(file.fd, bytes, offset);
  await file.finish(0o644, options.verity);
  file.replace(path);
  await synchronizeDirectory(directory);
}
