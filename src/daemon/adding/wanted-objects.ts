import { IncompatibleImage } from '../../api/mount-delegation.ts';
import type { ObjectTable, ScannedImage } from '../threads/object-table.ts';

/** The files that the image of `scan` wants in a store. Throws IncompatibleImage for one without a store. */
export function wantedObjects(scan: ScannedImage): ObjectTable {
  if (scan.fileSystem === 'composefs') return scan.objects;
  throw new IncompatibleImage({ reason: `an image of ${scan.fileSystem} has no files in a store` });
}
