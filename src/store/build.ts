import type { Digest } from '../base/digest.ts';
import type { Tree } from '../composefs/tree.ts';
import type { WriteOptions } from '../composefs/write.ts';
import { writeImage } from '../composefs/write.ts';
import { verityDigest } from '../verity/verity.ts';
import type { Measured } from './content.ts';
import { measureFile } from './content.ts';
import { ObjectThreads } from './object-threads.ts';
import type { ObjectStore } from './objects.ts';
import { lockStore } from './store-lock.ts';
import type { ScanOptions } from './scan-directory.ts';
import { scanDirectory } from './scan-directory.ts';

/** What of a directory an image shows: ScanOptions says what each means. */
export type TreeOptions = Pick<ScanOptions, 'owner' | 'skipDevices' | 'xattrs' | 'useEpoch' | 'exclude'>;

/** What an image is made of, and in which format. */
export interface ImageOptions extends WriteOptions, TreeOptions {
  /** The directory that the image shows. */
  readonly source: string;
  /** Called after each file that was hashed, with what was hashed in all. */
  readonly onProgress?: (progress: BuildProgress) => void;
}

/** How an image is built, and where its files go. */
export interface BuildOptions extends ImageOptions {
  /** Where the contents of files go that are not inline. */
  readonly store: ObjectStore;
  /** How many threads hash and copy files; 1 unless given. */
  readonly threads?: number;
}

/** How far a build is: files that were hashed, those of them that are new in the store, and bytes of all. */
export interface BuildProgress {
  readonly files: number;
  readonly newFiles: number;
  readonly bytes: number;
}

/** An image, not yet in a file, and its fs-verity digest. */
export interface BuiltImage {
  readonly image: Uint8Array;
  readonly digest: Digest;
}

/**
 * Builds the composefs image of a directory and puts the contents of its files into the store; they are on the disk
 * when this returns. Throws ScanError, StoreError and TreeError; objects that were added by then stay.
 */
export async function buildImage(options: BuildOptions): Promise<BuiltImage> {
  const lock = lockStore(options.store.path, 'add');
  try {
    return await buildIntoStore(options);
  } finally {
    lock.close();
  }
}

async function buildIntoStore(options: BuildOptions): Promise<BuiltImage> {
  await using threads = new ObjectThreads(options.store, options.threads ?? 1);
  const count = counting(options);
  const tree = await scanDirectory(options.source, {
    ...options,
    outside: options.store.path,
    filesAtOnce: threads.filesAtOnce,
    keep: async (fd, size) => {
      const stored = await threads.add(fd, size);
      count(stored, stored.isNew);
      return stored;
    },
  });
  await threads.sync();
  return formatImage(tree, options);
}

/** The composefs image of a directory, whose files are hashed and go nowhere. Throws ScanError and TreeError. */
export async function measureDirectory(options: ImageOptions): Promise<BuiltImage> {
  const count = counting(options);
  const tree = await scanDirectory(options.source, {
    ...options,
    keep: async (fd, size) => {
      const measured = await measureFile(fd, size);
      count(measured, false);
      return measured;
    },
  });
  return formatImage(tree, options);
}

/** What counts files and tells how far it is. */
function counting({ onProgress }: ImageOptions): (file: Measured, isNew: boolean) => void {
  let [files, newFiles, bytes] = [0, 0, 0];
  return (file, isNew) => {
    files++;
    if (isNew) newFiles++;
    bytes += file.bytes;
    onProgress?.({ files, newFiles, bytes });
  };
}

/** The image of a tree and its digest. Throws TreeError for a tree that no image can hold. */
export function formatImage(tree: Tree, options: WriteOptions): BuiltImage {
  const image = writeImage(tree, options);
  return { image, digest: verityDigest(image) };
}
