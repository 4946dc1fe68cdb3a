import type { Digest } from '../../base/digest.ts';
import type { MountedPartition } from '../../ddi/mounted-partition.ts';
import { handedOutMilliseconds } from '../../store/handed-out.ts';
import type { UnscannedFileSystem } from '../../trust/file-system.ts';
import { bytesOf, type ScannedImage } from '../threads/object-table.ts';

interface Entry {
  readonly scan: ScannedImage;
  readonly bytes: number;
  /** When every object was last known to be in stores (performance.now()), by a key that says which stores they are. */
  readonly complete: Map<string, number>;
}

/** How many combinations of stores are remembered for one image. */
const combinationsMax = 32;

/**
 * What images hold, by their digest, so that a known image is not read again: bounded in bytes, since the names of
 * the objects may be many, and in entries. The one used longest ago goes first.
 */
export class Contents {
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  readonly #entries = new Map<Digest, Entry>();
  readonly #identified = new Set<string>();
  readonly #disks = new Map<Digest, MountedPartition>();
  #diskBytes = 0;
  #bytes = 0;

  constructor(limits: { readonly entries: number; readonly bytes: number }) {
    this.#entriesMax = limits.entries;
    this.#bytesMax = limits.bytes;
  }

  /** What the image of `digest` holds, or undefined where it has to be read. */
  get(digest: Digest): ScannedImage | undefined {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return undefined;
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    return entry.scan;
  }

  /** Remembers what an image holds. One that alone is beyond the bound is not remembered. */
  set(digest: Digest, scan: ScannedImage): void {
    this.#remove(digest);
    const bytes = sizeOf(scan);
    if (bytes > this.#bytesMax) return;
    this.#entries.set(digest, { scan, bytes, complete: new Map() });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax && this.#entries.size <= this.#entriesMax) return;
      this.#remove(oldest);
    }
  }

  /** Whether every object of the image is known to be in these stores: was found there, and cannot have been collected since. */
  isComplete(digest: Digest, stores: string): boolean {
    const known = this.#entries.get(digest)?.complete.get(stores);
    return known !== undefined && performance.now() - known < handedOutMilliseconds;
  }

  /** Remembers that every object of the image is in these stores, and that the image is on record as handed out. */
  setComplete(digest: Digest, stores: string): void {
    const complete = this.#entries.get(digest)?.complete;
    if (complete === undefined) return;
    if (complete.size >= combinationsMax) complete.clear();
    complete.set(stores, performance.now());
  }

  /** Whether the image of `digest` was seen to be of that filesystem, one that is not scanned. */
  isIdentified(digest: Digest, fileSystem: UnscannedFileSystem): boolean {
    return this.#identified.has(`${digest} ${fileSystem}`);
  }

  /** Remembers that the superblock of the image is one of that filesystem. */
  setIdentified(digest: Digest, fileSystem: UnscannedFileSystem): void {
    if (this.#identified.size >= this.#entriesMax) this.#identified.clear();
    this.#identified.add(`${digest} ${fileSystem}`);
  }

  /** What is mounted of the disk image of `digest`, or undefined where it has to be read. */
  disk(digest: Digest): MountedPartition | undefined {
    return this.#disks.get(digest);
  }

  /** Remembers what is mounted of a disk image. */
  setDisk(digest: Digest, disk: MountedPartition): void {
    const bytes = disk.signed?.signature.length ?? 0;
    if (this.#disks.size >= this.#entriesMax || this.#diskBytes + bytes > this.#bytesMax / 16) {
      this.#disks.clear();
      this.#diskBytes = 0;
    }
    this.#disks.set(digest, disk);
    this.#diskBytes += bytes;
  }

  #remove(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    this.#entries.delete(digest);
    this.#bytes -= entry.bytes;
  }
}

/** Roughly what a scan takes in memory, in bytes. */
function sizeOf(scan: ScannedImage): number {
  return 512 + bytesOf(scan.objects);
}
