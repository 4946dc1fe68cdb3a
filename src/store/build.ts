import type { Digest } from '../base/digest.ts';
import type { Tree } from '../composefs/tree.ts';
import type { WriteOptions } from '../composefs/write.ts';
import { writeImage } from '../composefs/write.ts';
import { verityDigest } from '../verity/verity.ts';
import { ObjectThreads } from './object-threads.ts';
import type { ObjectStore } from './objects.ts';
import { lockStore } from './store-lock.ts';
import type { ScanOptions } from './scan-directory.ts';
import { scanDirectory } from './scan-directory.ts';

/** What of a directory an image shows: ScanOptions says what each means. */
export type TreeOptions = Pick<ScanOptions, 'owner' | 'skipDevices' | 'xattrs' | 'useEpoch' | 'exclude'>;

/** What an image is built from, and how. */
export interface BuildOptions extends WriteOptions, TreeOptions {
  /** The directory that the image shows. */
  readonly source: string;
  /** Where the contents of files go that are not inline. */
  readonly store: ObjectStore;
  /** How many threads hash and copy files; 1 unless given. */
  readonly threads?: number;
  /** Called after each file that went to the store, with what went there in all. */
  readonly onProgress?: (progress: BuildProgress) => void;
}

/** How far a build is: files that went to the store, those of them that were not there before, and bytes of all. */
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
  let [files, newFiles, bytes] = [0, 0, 0];
  await using threads = new ObjectThreads(options.store, options.threads ?? 1);
  const tree = await scanDirectory(options.source, {
    ...options,
    outside: options.store.path,
    filesAtOnce: threads.filesAtOnce,
    keep: async (fd, size) => {
      const stored = await threads.add(fd, size);
      files++;
      if (stored.isNew) newFiles++;
      bytes += stored.bytes;
      options.onProgress?.({ files, newFiles, bytes });
      return stored;
    },
  });
  await threads.sync();
  return formatImage(tree, options);
}

/** The image of a tree and its digest. Throws TreeError for a tree that no image can hold. */
export function formatImage(tree: Tree, options: WriteOptions): BuiltImage {
  const image = writeImage(tree, options);
  return { image, digest: verityDigest(image) };
}
