import { scanImage } from '../../src/composefs/scan.ts';
import { Adder, type AddOrder } from '../../src/daemon/adding/adder.ts';
import { tabulate } from '../../src/daemon/threads/object-table.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { imageOf, type Content } from './adding-room.ts';
import type { Room } from './mounting-room.ts';

/** Adding files of one image to a room's store. */
export interface AddingHere {
  readonly adder: Adder;
  /** Adds what these descriptors hold, for a user. */
  readonly add: (fds: readonly number[], user?: number, more?: Partial<AddOrder>) => Promise<void>;
  /** What the store did not have before, by path. */
  readonly added: readonly string[];
}

/** Everything that is needed to add files to the store of a room, in this process. */
export function addingHere(room: Room, contents: readonly Content[]): AddingHere {
  const adder = new Adder({ pool: room.pool, closing: room.closing, records: room.records });
  const image = imageOf(Object.fromEntries(contents.map((content, index) => [`f${index}`, content])));
  const [digest, scan] = [verityDigest(image), tabulate(scanImage(image))];
  const added: string[] = [];
  const add: AddingHere['add'] = (fds, user = 1000, more = {}) =>
    adder.inTurn({ user }, () =>
      adder.add({
        digest,
        scan,
        target: { store: room.store, bytesPerHour: undefined },
        files: fds.map((fd, index) => ({ fd, field: `objectFileDescriptors[${index}]` })),
        peer: { user },
        isCurrent: () => true,
        added: (path) => void added.push(path),
        ...more,
      }),
    );
  return { adder, add, added };
}
