import { direntName, readDirents } from '../../src/composefs/directory.ts';
import type { InodeHead } from '../../src/composefs/inode.ts';
import { flatPieces, readInode } from '../../src/composefs/inode.ts';
import { openImage } from '../../src/composefs/superblock.ts';

/** Where something lies in a sound image, in bytes, so that a test can damage exactly that. */
export interface Located {
  readonly inode: InodeHead;
  /** The entry in the parent's directory; that of "." for the root. */
  readonly direntOffset: number;
  readonly nameOffset: number;
}

/** Find "/a/b" in a sound image. */
export function locate(bytes: Uint8Array, path: string): Located {
  const image = openImage(bytes);
  let found = find(bytes, image.rootNid, '.');
  for (const name of path.split('/').filter((part) => part !== ''))
    found = find(bytes, found.inode.nid, name);
  return found;
}

function find(bytes: Uint8Array, directoryNid: number, name: string): Located {
  const image = openImage(bytes);
  const directory = readInode(image, directoryNid);
  const pieces = flatPieces(image, directory);
  const dirents = [...readDirents(image, directory)];
  for (const piece of pieces) {
    for (let block = piece.offset; block < piece.offset + piece.bytes; block += 4096) {
      const count = image.view.getUint16(block + 8, true) / 12;
      for (let index = 0; index < count; index++) {
        const direntOffset = block + index * 12;
        const nameOffset = block + image.view.getUint16(direntOffset + 8, true);
        const dirent = dirents.find((candidate) => candidate.nameOffset === nameOffset);
        if (dirent === undefined || direntName(image, dirent) !== name) continue;
        return { inode: readInode(image, dirent.nid), direntOffset, nameOffset };
      }
    }
  }
  throw new Error(`${name} is not in the directory`);
}
