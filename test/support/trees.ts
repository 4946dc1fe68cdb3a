import { parseDump } from '../../src/composefs/dump.ts';
import type { Tree } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';

/** The path that an object has in a store, and the digest, made of one repeated pair of hexadecimal digits. */
export function objectOf(pair: string): { path: string; hex: string } {
  const hex = pair.repeat(32);
  return { path: `${hex.slice(0, 2)}/${hex.slice(2)}`, hex };
}

/** The tree of a dump whose lines these are; a root comes first by itself. */
export function treeOf(...lines: readonly string[]): Tree {
  return parseDump(Buffer.from(['/ 4096 40755 2 0 0 0 0.0 - - -', ...lines, ''].join('\n'), 'latin1'));
}

/** The image, of format version 1, of such a tree. */
export function imageOf(...lines: readonly string[]): Buffer {
  return Buffer.from(writeImage(treeOf(...lines), { minVersion: 1, maxVersion: 1 }));
}
