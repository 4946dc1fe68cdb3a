import { closeSync, openSync } from 'node:fs';
import { readVeritySignature } from '../sys/verity.ts';
import { withPath } from './input-file.ts';

/** The signature with which fs-verity was enabled on the file at `path`, or undefined. Throws CommandError. */
export function readBuiltInSignature(path: string): Uint8Array | undefined {
  return withPath(path, () => {
    const fd = openSync(path, 'r');
    try {
      return readVeritySignature(fd);
    } finally {
      closeSync(fd);
    }
  });
}
