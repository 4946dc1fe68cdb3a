import { IncompatibleImage } from '../api/mount-delegation.ts';
import type { ImageScan } from '../composefs/scan.ts';

/** The files that an image wants in a store. */
export interface WantedObjects {
  /** Their paths in a store. A file is one of them if its digest makes such a path ("ab/cdef…"). */
  readonly paths: ReadonlySet<string>;
  /** The sizes that any of them has, in bytes. */
  readonly sizes: ReadonlySet<number>;
}

const known = new WeakMap<ImageScan, WantedObjects>();

/** What the image of `scan` wants; remembered for as long as the scan is. Throws IncompatibleImage for one without a store. */
export function wantedObjects(scan: ImageScan): WantedObjects {
  let wanted = known.get(scan);
  if (wanted === undefined) {
    if (scan.fileSystem !== 'composefs') {
      throw new IncompatibleImage({ reason: `an image of ${scan.fileSystem} has no files in a store` });
    }
    wanted = { paths: new Set(scan.objects), sizes: new Set(scan.objectSizes) };
    known.set(scan, wanted);
  }
  return wanted;
}
