import { closeSync, fstatSync, readFileSync } from 'node:fs';

import { openRegular } from '../../store/objects.ts';
import { isScanned } from '../../trust/file-system.ts';
import { CommandError } from '../command-error.ts';
import { fileSystemOfImage } from '../file-system-of-image.ts';

/** Node's own limit of one read is 2 GiB; an image of that size describes some tens of millions of files. */
const imageBytesMax = 2 ** 31 - 1;

/**
 * As readImage, for those who list its files. Throws CommandError also where the image is of a filesystem whose files
 * the kernel alone reads.
 */
export function readImageOfFiles(path: string): Uint8Array {
  const seen = fileSystemOfImage(path);
  if (seen !== undefined && !isScanned(seen))
    throw new CommandError(
      `${path}: it looks like ${seen}, whose files only the kernel reads; mount it to list them`,
    );
  return readImage(path);
}

/** The whole of an image file. Throws CommandError where it is larger than this program reads, else the system's error. */
export function readImage(path: string): Uint8Array {
  const fd = openRegular(path);
  try {
    if (fstatSync(fd).size > imageBytesMax)
      throw new CommandError(`${path}: larger than 2 GiB, not an image of files`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
