import * as format from './format.ts';
import type { Inode } from './tree.ts';

/** The file type bits of st_mode for each type of inode. */
export const typeBits: Readonly<Record<Inode['type'], number>> = {
  directory: format.modeDirectory,
  file: format.modeFile,
  symlink: format.modeSymlink,
  fifo: format.modeFifo,
  socket: format.modeSocket,
  character: format.modeCharacter,
  block: format.modeBlock,
};
