import { digestFromBytes, digestHex, type Digest } from '../../base/digest.ts';
import type { ImageScan } from '../../composefs/scan.ts';

/** An object of an image: its path in a store, such as "ab/cdef…", and the digest that the image gives it, if any. */
export interface WantedObject {
  readonly path: string;
  readonly digest: Digest | undefined;
}

/** "ab/", 62 digits, and perhaps ".file" (store-path.ts); shorter ones end with zeros. */
const pathBytes = 70;
const digestLength = 32;

/**
 * The objects of an image, ordered by path, in memory that all threads share: an image may have a million, and to pass them from
 * one thread to another as strings would hold up the event loop for as long as many mounts take.
 */
export interface ObjectTable {
  readonly count: number;
  /** Their paths in a store, 70 bytes each. */
  readonly paths: Uint8Array;
  /** The digests that the image gives them, 32 bytes each; zeros where it gives none. */
  readonly digests: Uint8Array;
  /** Each size that any of them has, in bytes, the least first. */
  readonly sizes: Float64Array;
}

/** What is known of an image, with its objects as a table. */
export type ScannedImage = Omit<ImageScan, 'objects' | 'objectDigests' | 'objectSizes'> & {
  readonly objects: ObjectTable;
};

/** Puts the objects of `scan` into a table. */
export function tabulate(scan: ImageScan): ScannedImage {
  const { objects, objectDigests, objectSizes, ...rest } = scan;
  const scanned = Buffer.alloc(pathBytes * objects.length);
  for (const [index, path] of objects.entries()) scanned.write(path, index * pathBytes, 'latin1');
  const order = orderOf(scanned);
  const paths = Buffer.from(new SharedArrayBuffer(scanned.length));
  const digests = Buffer.from(new SharedArrayBuffer(digestLength * order.length));
  for (const [place, index] of order.entries()) {
    scanned.copy(paths, place * pathBytes, index * pathBytes, (index + 1) * pathBytes);
    const digest = objectDigests[index];
    if (digest !== undefined) digests.write(digestHex(digest), place * digestLength, 'hex');
  }
  const different = Float64Array.from(new Set(objectSizes)).sort();
  const sizes = new Float64Array(new SharedArrayBuffer(different.byteLength));
  sizes.set(different);
  return {
    ...rest,
    objects: {
      count: order.length,
      paths: new Uint8Array(paths.buffer),
      digests: new Uint8Array(digests.buffer),
      sizes,
    },
  };
}

/** The places of `paths` in their order. Most differ in their first six digits: to compare numbers takes a tenth of the time. */
function orderOf(paths: Buffer): Uint32Array {
  const start = (index: number): number => index * pathBytes;
  const indices = Uint32Array.from({ length: paths.length / pathBytes }, (_, index) => index);
  const keys = Float64Array.from(
    indices,
    (index) => paths.readUInt16BE(start(index)) * 2 ** 32 + paths.readUInt32BE(start(index) + 3),
  );
  return indices.sort(
    (left, right) =>
      (keys[left] ?? 0) - (keys[right] ?? 0) ||
      paths.compare(paths, start(right), start(right + 1), start(left), start(left + 1)),
  );
}

/** The path of the object at `place`. */
export function pathAt({ paths }: ObjectTable, place: number): string {
  const start = place * pathBytes;
  return Buffer.from(paths.buffer, paths.byteOffset + start, pathBytes)
    .toString('latin1')
    .replace(/\0+$/, '');
}

/** The paths of all objects. */
export function pathsOf(table: ObjectTable): string[] {
  return Array.from({ length: table.count }, (_, place) => pathAt(table, place));
}

/** The objects from the place `from` up to `to`. */
export function* objectsOf(table: ObjectTable, from: number, to: number): Generator<WantedObject> {
  for (let place = from; place < to; place += 1) {
    yield { path: pathAt(table, place), digest: digestAt(table, place) };
  }
}

/** Where the object of that path is, or -1. */
export function placeOf(table: ObjectTable, path: string): number {
  return search(table.count, (place) => {
    const found = pathAt(table, place);
    return found === path ? 0 : found < path ? -1 : 1;
  });
}

/** Whether any object has that size. */
export function hasSize({ sizes }: ObjectTable, bytes: number): boolean {
  return search(sizes.length, (place) => (sizes[place] ?? 0) - bytes) >= 0;
}

/** Bytes of memory that the table takes. */
export function bytesOf({ paths, digests, sizes }: ObjectTable): number {
  return paths.byteLength + digests.byteLength + sizes.byteLength;
}

function digestAt({ digests }: ObjectTable, place: number): Digest | undefined {
  const bytes = digests.subarray(place * digestLength, (place + 1) * digestLength);
  return bytes.some((byte) => byte !== 0) ? digestFromBytes(bytes) : undefined;
}

/** The place among `count` ordered ones where `compare` gives 0, below it less and above it more; -1 where there is none. */
function search(count: number, compare: (place: number) => number): number {
  let [low, high] = [0, count - 1];
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const side = compare(middle);
    if (side === 0) return middle;
    if (side < 0) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
