import { statSync } from 'node:fs';

import type { Digest } from '../../base/digest.ts';
import { SuperblockInvalid } from '../../superblock/superblock-invalid.ts';
import { readSuperblock } from '../../superblock/read-superblock.ts';
import type { Superblock } from '../../superblock/superblock.ts';
import type { UnscannedFileSystem } from '../../trust/file-system.ts';
import { CommandError } from '../command-error.ts';
import { readHead } from '../file-system-of-image.ts';
import { measureFile, withPath } from '../input-file.ts';
import { printJson } from '../output.ts';
import { printable } from './printable.ts';
import { printLines } from './print-lines.ts';
import { formatSize } from './progress.ts';

/** Prints what the superblock of an image says whose files the kernel alone reads. Throws CommandError. */
export function inspectSuperblock(
  path: string,
  fileSystem: UnscannedFileSystem,
  options: { readonly json?: true },
): void {
  const bytes = withPath(path, () => statSync(path).size);
  const superblock = superblockOf(path, fileSystem, bytes);
  const digest = measureFile(path);
  if (options.json === true) printJson({ digest, imageBytes: bytes, ...superblock });
  else printLines(summarize(digest, bytes, superblock));
}

function superblockOf(path: string, fileSystem: UnscannedFileSystem, bytes: number): Superblock {
  try {
    return readSuperblock(fileSystem, readHead(path), bytes);
  } catch (error) {
    if (error instanceof SuperblockInvalid) throw new CommandError(`${path}: ${error.message}`);
    throw error;
  }
}

function summarize(digest: Digest, imageBytes: number, superblock: Superblock): string[] {
  const { fileSystem, bytes, blockBytes, label, uuid, compression, dirty } = superblock;
  return [
    `Digest:        ${digest}`,
    `File system:   ${fileSystem}${compression === undefined ? '' : `, compressed by ${compression}`}`,
    `Image size:    ${formatSize(imageBytes)}, of which ${formatSize(bytes)} are the filesystem's`,
    `Block size:    ${formatSize(blockBytes)}`,
    ...(label === undefined ? [] : [`Label:         ${printable(label)}`]),
    ...(uuid === undefined ? [] : [`UUID:          ${uuid}`]),
    ...(dirty === true
      ? ['Journal:       not empty; it is not replayed, so that the last changes may be missing']
      : []),
    'Device nodes:  only the kernel knows',
  ];
}
