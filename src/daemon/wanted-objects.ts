import { IncompatibleImage } from '../api/mount-delegation.ts';
import type { ImageScan } from '../composefs/scan.ts';
import { objectDigest } from '../store/objects.ts';

/** The files that an image wants in a store. */
export interface WantedObjects {
  /** Their paths in a store ("ab/cdef…"), which are their digests. */
  readonly paths: ReadonlySet<string>;
  /** The sizes that any of them has, in bytes. */
  readonly sizes: ReadonlySet<number>;
}

const known = new WeakMap<ImageScan, WantedObjects>();

/**
 * What the image of `scan` wants; remembered for as long as the scan is. Throws IncompatibleImage for an image that names a file
 * by something else than its digest: nothing would say what its content is to be.
 */
export function wantedObjects(scan: ImageScan): WantedObjects {
  let wanted = known.get(scan);
  if (wanted === undefined) {
    wanted = read(scan);
    known.set(scan, wanted);
  }
  return wanted;
}

function read(scan: ImageScan): WantedObjects {
  if (scan.fileSystem !== 'composefs') {
    throw new IncompatibleImage({ reason: `an image of ${scan.fileSystem} has no files in a store` });
  }
  scan.objects.forEach((path, index) => {
    const digest = objectDigest(path);
    if (digest !== undefined && (scan.objectDigests[index] ?? digest) === digest) return;
    throw new IncompatibleImage({ reason: `it names the file ${path} by something else than its digest` });
  });
  return { paths: new Set(scan.objects), sizes: new Set(scan.objectSizes) };
}
