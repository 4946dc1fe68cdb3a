import { closeSync, fstatSync, readFileSync } from 'node:fs';

import { openRegular } from '../../store/objects.ts';
import { CommandError } from '../command-error.ts';

/** Node's own limit of one read is 2 GiB; an image of that size describes some tens of millions of files. */
const imageBytesMax = 2 ** 31 - 1;

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
