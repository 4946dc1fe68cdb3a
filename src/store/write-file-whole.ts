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
  using file = await prepareFile(path, bytes, options);
  file.replace(path);
  await synchronizeDirectory(dirname(path));
}

/** The first half of it: a file that is on the disk and has no name yet, which may become `path`. The caller disposes of it. */
export async function prepareFile(
  path: string,
  bytes: Uint8Array,
  options: { readonly verity: boolean },
): Promise<UnfinishedFile> {
  const file = await UnfinishedFile.create(dirname(path));
  try {
    for (let offset = 0; offset < bytes.length;) offset += writeSync(file.fd, bytes, offset);
    await file.finish(0o644, options.verity);
    return file;
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}
