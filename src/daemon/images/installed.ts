import type { BigIntStats } from 'node:fs';
import { ImageNotFound, ImageNotImmutable, LimitExceeded } from '../../api/mount-delegation.ts';
import type { Digest } from '../../base/digest.ts';
import type { Policy } from '../../policy/policy.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fileSystemMagic, fstat, readLease } from '../../sys/file.ts';
import { readVeritySignature } from '../../sys/verity.ts';
import { VarlinkError } from '../../varlink/error.ts';
import { DigestIndex } from './digest-index.ts';
import { identityOf, InstalledFiles, isSettled, type OpenedImage } from './installed-files.ts';
import { RecentImages } from './recent-images.ts';
import { isAbout, statedDigest } from './stated-digest.ts';
import { isLocalFileSystem } from '../threads/verity-file.ts';

/** An image that the daemon opened itself, in use until `release`. */
export interface InstalledImage {
  readonly digest: Digest;
  /** Which file it is, and which state of it (identityOf in installed-files.ts). */
  readonly identity: string;
  /** Read-only, with a read lease: nobody has the file open for writing. Borrowed until `release`. */
  readonly fd: number;
  readonly bytes: number;
  /** Its path, links resolved. */
  readonly location: string;
  /** What FILE.sig holds, where there is one. The same object as long as the file stays the same. */
  readonly signatureFile: Uint8Array | undefined;
  /** What fs-verity was enabled with, where it is and that was a signature. */
  readonly builtInSignature: Uint8Array | undefined;
  release(): void;
}

/** What measures a file by reading it, on another thread. */
export type Measure = (fd: number, bytes: number) => Promise<Digest>;

/** Limits on what is kept and read. */
export interface InstalledLimits {
  readonly images: number;
  readonly imageBytes: number;
  readonly signatureFileBytes: number;
}

/** An image kept open, by its identity. */
interface Kept {
  readonly identity: string;
  readonly file: OwnedFd;
  readonly bytes: number;
  readonly digest: Digest;
  readonly builtInSignature: Uint8Array | undefined;
  users: number;
  dropped: boolean;
}

/** An image that is kept open, and what lay beside it. */
interface Recent extends Pick<OpenedImage, 'location' | 'signature'> {
  readonly kept: Kept;
}

/** Digests that are remembered by identity, so that a known file is not hashed again: a hundred bytes each. */
const digestsMax = 16_384;

/**
 * The images in the policy's directories. Every request looks at its file anew, so that new and replaced files are seen: by
 * stat alone where it was found of late (recent-images.ts), else by opening it. What is spared is hashing: an image that
 * was measured is kept open with its read lease, and is known again by device, inode, time of change and size.
 */
export class Installed {
  readonly #limits: InstalledLimits;
  readonly #measure: Measure;
  readonly #files: InstalledFiles;
  readonly #kept = new Map<string, Kept>();
  readonly #recent = new RecentImages<Recent>();
  readonly #measuring = new Map<string, Promise<Digest>>();
  readonly #digests = new Map<string, Digest>();
  /** The identity of the image that was last at each location. */
  readonly #latest = new Map<string, string>();
  readonly #stated = new DigestIndex((name, directories) => this.#readStated(name, directories));
  readonly #measured = new DigestIndex((name, directories) => this.#readMeasured(name, directories));
  /** Where an image of that digest was found last. */
  readonly #names = new Map<Digest, string>();

  constructor(limits: InstalledLimits, measure: Measure) {
    this.#limits = limits;
    this.#measure = measure;
    this.#files = new InstalledFiles(limits.signatureFileBytes);
  }

  /** The image called `name`. Throws ImageNotFound, ImageNotImmutable, LimitExceeded, SyscallError. */
  byName(name: string, { imageDirectories }: Policy): InstalledImage | Promise<InstalledImage> {
    return this.#byName(name, imageDirectories);
  }

  #byName(name: string, directories: readonly string[]): InstalledImage | Promise<InstalledImage> {
    const recent = this.#recall(name, directories);
    if (recent !== undefined) return this.#use(recent.kept, recent);
    const opened = this.#files.open(name, directories);
    if (opened === undefined) throw new ImageNotFound({ name });
    const taken = this.#take(opened);
    if (taken === undefined) return this.#learn(name, opened, directories);
    this.#remember(name, directories, opened);
    return taken;
  }

  /** What was found under `name` of late, where nothing has changed and the lease still holds. */
  #recall(name: string, directories: readonly string[]): Recent | undefined {
    const recent = this.#recent.recall(name, directories);
    if (recent === undefined || recent.kept.dropped) return undefined;
    return readLease(recent.kept.file.number) ? recent : undefined;
  }

  #remember(
    name: string,
    directories: readonly string[],
    { found, places, location, signature }: OpenedImage,
  ): void {
    const kept = this.#kept.get(identityOf(found));
    if (places === undefined || kept === undefined) return;
    this.#recent.remember(name, directories, places, { kept, location, signature });
  }

  /** The image with `digest`, wherever it is below the policy's directories. Throws as `byName`. */
  byDigest(digest: Digest, { imageDirectories }: Policy): InstalledImage | Promise<InstalledImage> {
    const known = this.#names.get(digest);
    const recent = known === undefined ? undefined : this.#recall(known, imageDirectories);
    return recent?.kept.digest === digest
      ? this.#use(recent.kept, recent)
      : this.#search(digest, known, imageDirectories);
  }

  async #search(
    digest: Digest,
    known: string | undefined,
    imageDirectories: readonly string[],
  ): Promise<InstalledImage> {
    const hinted = known === undefined ? undefined : await this.#tryName(known, digest, imageDirectories);
    if (hinted !== undefined) return hinted;
    // Those whose signature speaks of the digest come first: to know the others, each has to be measured.
    for (const index of [this.#stated, this.#measured]) {
      for (const name of await index.names(digest, imageDirectories)) {
        const found = await this.#tryName(name, digest, imageDirectories);
        if (found !== undefined) return found;
      }
    }
    throw new ImageNotFound({ name: digest });
  }

  /**
   * Learns the digests of all images anew, so that requests for one need not: with a new policy, and where filesystems were mounted
   * in its directories. Rejects with the system call's error.
   */
  async index({ imageDirectories }: Policy): Promise<void> {
    for (const index of [this.#stated, this.#measured]) await index.begin(imageDirectories);
  }

  /** Gives up leases that somebody waits for, to be called on SIGIO (fcntl(2), "Leases"). */
  releaseBroken(): void {
    for (const kept of this.#kept.values()) if (!readLease(kept.file.number)) this.#drop(kept);
  }

  /** How many images are kept open, for the checks against leaks. */
  get keptOpen(): number {
    return this.#kept.size;
  }

  /** Closes everything that is not in use. */
  close(): void {
    for (const index of [this.#stated, this.#measured]) index.close();
    for (const kept of this.#kept.values()) this.#drop(kept);
    this.#files.close();
  }

  /** The kept image that `opened` is, if it is one whose lease still holds. */
  #take(opened: OpenedImage): InstalledImage | undefined {
    const kept = this.#kept.get(identityOf(opened.found));
    if (kept === undefined) return undefined;
    if (!readLease(kept.file.number)) {
      this.#drop(kept);
      return undefined;
    }
    opened.file.close();
    return this.#use(kept, opened);
  }

  #use(kept: Kept, opened: Pick<OpenedImage, 'location' | 'signature'>): InstalledImage {
    kept.users += 1;
    let used = true;
    return {
      digest: kept.digest,
      identity: kept.identity,
      fd: kept.file.number,
      bytes: kept.bytes,
      location: opened.location,
      signatureFile: opened.signature,
      builtInSignature: kept.builtInSignature,
      release: () => {
        if (!used) return;
        used = false;
        kept.users -= 1;
        if (kept.dropped && kept.users === 0) kept.file.close();
      },
    };
  }

  /** Measures what was opened and keeps it. Where image and signature do not fit, both are opened once more. */
  async #learn(name: string, first: OpenedImage, directories: readonly string[]): Promise<InstalledImage> {
    const image = await this.#keep(first);
    if (image !== undefined) {
      if (first.signature === undefined || isAbout(first.signature, image.digest)) return image;
      image.release();
    }
    // One of the two may have been replaced between the two opens, or the image while it was read.
    const second = this.#files.open(name, directories);
    if (second === undefined) throw new ImageNotFound({ name });
    const again = this.#take(second) ?? (await this.#keep(second));
    if (again !== undefined) return again;
    throw new ImageNotImmutable({ reason: `${second.location} changed while it was read` });
  }

  /** Undefined where it changed while it was read: also where another file got its name, which counts as a change. */
  async #keep(opened: OpenedImage): Promise<InstalledImage | undefined> {
    using file = opened.file;
    const { found, location } = opened;
    const identity = identityOf(found);
    if (found.size > BigInt(this.#limits.imageBytes)) {
      throw new LimitExceeded({ limit: 'imageBytesInPlace', value: this.#limits.imageBytes });
    }
    demandLease(file.number, location);
    const digest = this.#digests.get(identity) ?? (await this.#measureOnce(identity, file.number, found));
    // The lease was there all the while, unless somebody broke it; then the time of change tells, or the lease is refused.
    demandLease(file.number, location);
    if (identityOf(fstat(file.number)) !== identity) return undefined;
    let kept = this.#kept.get(identity);
    if (kept === undefined) {
      const builtInSignature = isLocalFileSystem(fileSystemMagic(file.number))
        ? readVeritySignature(file.number)
        : undefined;
      const bytes = Number(found.size);
      kept = { identity, file: file.moved(), bytes, digest, builtInSignature, users: 0, dropped: false };
      this.#kept.set(identity, kept);
    }
    const image = this.#use(kept, opened);
    this.#replace(location, identity);
    this.#evict();
    return image;
  }

  /** Requests for one new image at a time share one reading of it. */
  async #measureOnce(identity: string, fd: number, found: BigIntStats): Promise<Digest> {
    const running = this.#measuring.get(identity);
    if (running !== undefined) return running;
    const measuring = this.#measure(fd, Number(found.size));
    this.#measuring.set(identity, measuring);
    try {
      const digest = await measuring;
      if (this.#digests.size >= digestsMax) this.#digests.clear();
      if (isSettled(found)) this.#digests.set(identity, digest);
      return digest;
    } finally {
      this.#measuring.delete(identity);
    }
  }

  /** The image called `name` if it has `digest`. */
  async #tryName(
    name: string,
    digest: Digest,
    directories: readonly string[],
  ): Promise<InstalledImage | undefined> {
    const image = await this.#attempt(name, directories);
    if (image?.digest === digest) return image;
    image?.release();
    return undefined;
  }

  /** The image called `name`, or undefined: what is wrong with one image is no reason to refuse another. */
  async #attempt(name: string, directories: readonly string[]): Promise<InstalledImage | undefined> {
    try {
      const image = await this.#byName(name, directories);
      if (this.#names.size >= digestsMax) this.#names.clear();
      this.#names.set(image.digest, name);
      return image;
    } catch (error) {
      if (error instanceof VarlinkError || isSyscallError(error)) return undefined;
      throw error;
    }
  }

  async #readMeasured(name: string, directories: readonly string[]): Promise<Digest | undefined> {
    const image = await this.#attempt(name, directories);
    image?.release();
    return image?.digest;
  }

  /** The digest that the signature of the image `name` speaks of. */
  #readStated(name: string, directories: readonly string[]): Digest | undefined {
    try {
      const opened = this.#files.open(name, directories);
      opened?.file.close();
      return opened?.signature === undefined ? undefined : statedDigest(opened.signature);
    } catch (error) {
      if (error instanceof VarlinkError || isSyscallError(error)) return undefined;
      throw error;
    }
  }

  /** What was at `location` before is not wanted any more: kept open, it would take up its disk space. */
  #replace(location: string, identity: string): void {
    const before = this.#kept.get(this.#latest.get(location) ?? identity);
    if (before !== undefined && before.identity !== identity) this.#drop(before);
    if (this.#latest.size >= digestsMax) this.#latest.clear();
    this.#latest.set(location, identity);
  }

  /** Beyond the limit the image goes that was kept first and is not in use. */
  #evict(): void {
    for (const kept of this.#kept.values()) {
      if (this.#kept.size <= this.#limits.images) return;
      if (kept.users === 0) this.#drop(kept);
    }
  }

  #drop(kept: Kept): void {
    if (this.#kept.get(kept.identity) === kept) this.#kept.delete(kept.identity);
    kept.dropped = true;
    if (kept.users === 0) kept.file.close();
  }
}

function demandLease(fd: number, location: string): void {
  let granted: boolean;
  try {
    granted = readLease(fd);
  } catch (error) {
    if (!isSyscallError(error, 'EINVAL', 'EOPNOTSUPP')) throw error;
    throw new ImageNotImmutable({ reason: `the filesystem of ${location} knows no leases` });
  }
  if (!granted) throw new ImageNotImmutable({ reason: `somebody has ${location} open for writing` });
}
