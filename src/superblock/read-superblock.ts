import type { UnscannedFileSystem } from '../trust/file-system.ts';
import { readBtrfs } from './btrfs.ts';
import { readExt4 } from './ext4.ts';
import { headBytes, recogniseFileSystem } from './recognise.ts';
import { readSquashfs } from './squashfs.ts';
import { SuperblockInvalid } from './superblock-invalid.ts';
import type { Superblock } from './superblock.ts';
import { readXfs } from './xfs.ts';

/** A reader of one filesystem's superblock: `head` holds headBytes bytes, zeros after the image's end. */
const readers: Readonly<Record<UnscannedFileSystem, (head: DataView) => Omit<Superblock, 'fileSystem'>>> = {
  squashfs: readSquashfs,
  ext4: readExt4,
  xfs: readXfs,
  btrfs: readBtrfs,
};

/**
 * Reads the superblock of an image of `bytes` bytes that is said to be `fileSystem`, from its first bytes. Whether all else is
 * sound is for the kernel to find. Throws SuperblockInvalid: it is another filesystem, ends too early, or is only a part
 * of one.
 */
export function readSuperblock(fileSystem: UnscannedFileSystem, head: Uint8Array, bytes: number): Superblock {
  const whole = new Uint8Array(headBytes);
  whole.set(head.subarray(0, headBytes));
  const found = readers[fileSystem](new DataView(whole.buffer));
  if (found.bytes > bytes)
    throw new SuperblockInvalid(`the image has ${bytes} bytes, and its ${fileSystem} says ${found.bytes}`);
  return { fileSystem, ...found };
}

/** As readSuperblock; where it is another filesystem that is recognised, the error says which. */
export function demandSuperblock(
  fileSystem: UnscannedFileSystem,
  head: Uint8Array,
  bytes: number,
): Superblock {
  try {
    return readSuperblock(fileSystem, head, bytes);
  } catch (error) {
    const seen = recogniseFileSystem(head);
    if (!(error instanceof SuperblockInvalid) || seen === undefined || seen === fileSystem) throw error;
    throw new SuperblockInvalid(`${error.message}: it looks like ${seen}`);
  }
}
