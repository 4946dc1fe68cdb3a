import type { UnscannedFileSystem } from '../trust/file-system.ts';

/** What the superblock of an image says, of a filesystem whose files are not read here. */
export interface Superblock {
  readonly fileSystem: UnscannedFileSystem;
  readonly blockBytes: number;
  /** What the filesystem takes of the image, in bytes. */
  readonly bytes: number;
  /** Undefined where the filesystem has none, or it is empty. */
  readonly label: string | undefined;
  readonly uuid: string | undefined;
  /** Of squashfs. */
  readonly compression: string | undefined;
  /** Whether it was not unmounted in order: its journal is not replayed, so that the last changes may be missing. */
  readonly dirty: boolean | undefined;
}
