import { BadFileDescriptor, ImageNotImmutable, LimitExceeded } from '../../api/mount-delegation.ts';
import type { Digest } from '../../base/digest.ts';
import type { MountedPartition } from '../../ddi/mounted-partition.ts';
import type { Policy } from '../../policy/policy.ts';
import type { ImageContents } from '../../policy/question.ts';
import { isScanned, type FileSystem, type UnscannedFileSystem } from '../../trust/file-system.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { fstat, getFlags, getSeals, type Seal } from '../../sys/file.ts';
import { service, type Owner } from '../callers/owner.ts';
import type { Contents } from './contents.ts';
import type { CopyShare, Handouts } from '../callers/handouts.ts';
import type { Installed, InstalledImage } from './installed.ts';
import type { ScannedImage } from '../threads/object-table.ts';
import type { Pool } from '../threads/pool.ts';
import type { ImageRequest } from '../calls/request.ts';

/** An image that cannot change any more, and its digest. To be disposed of when the request is done. */
export interface TakenImage extends Disposable {
  readonly digest: Digest;
  /** Where it is installed, links resolved; undefined for an image that came as a descriptor. */
  readonly location?: string;
  /** The installed file that it is; undefined for an image that came as a descriptor. */
  readonly installed: Pick<InstalledImage, 'identity' | 'location'> | undefined;
  /** The signature that lies beside an installed image, and the one with which fs-verity was enabled on it. */
  readonly signatureFiles: readonly Uint8Array[];
  readonly kind: 'installed' | 'memfd' | 'verity';
  /** The file, read-only, borrowed until the image is disposed of. */
  readonly fd: number;
  /** The share of the copied bytes that a copy takes; a mount of it holds it as well. */
  readonly copy: CopyShare | undefined;
  /**
   * Makes it ready to be mounted, once it was let in: only then a memfd is copied. Undefined where nothing is to be done. Rejects
   * with LimitExceeded, ImageNotImmutable, SyscallError.
   */
  admit(): Promise<void> | undefined;
  /** What it holds; read when it is asked for the first time. Throws or rejects with IncompatibleImage, LimitExceeded. */
  scan(): Promise<ScannedImage> | ScannedImage;
  /**
   * What is to be known of it where it is mounted as `fileSystem`: all that it holds, or that its superblock is the right one
   * where no more is read here. Throws or rejects as scan.
   */
  contents(fileSystem: FileSystem): Promise<ImageContents> | ImageContents;
  /** What is mounted of it where it is a disk image. Throws or rejects as scan. */
  disk(): Promise<MountedPartition> | MountedPartition;
}

/** What taking images needs. */
export interface ImagesOptions {
  readonly pool: Pool;
  readonly installed: Installed;
  readonly contents: Contents;
  readonly handouts: Handouts;
  /** Where copies are made: a folder on a filesystem from which EROFS mounts. */
  readonly directory: string;
  /** Of images that are copied, or read as a whole. */
  readonly imageBytes: number;
  /** Of images that are taken where they lie. */
  readonly imageBytesInPlace: number;
  /** Closes what may hang as it is closed. */
  readonly closing: { close(fds: readonly number[], owner: Owner, closed?: () => void): void };
}

interface Taken {
  readonly kind: TakenImage['kind'];
  readonly digest: Digest;
  readonly fd: number;
  readonly bytes: number;
  readonly copy: CopyShare | undefined;
  readonly installed: InstalledImage | undefined;
  readonly builtInSignature?: Uint8Array | undefined;
  dispose(): void;
}

const needed: readonly Seal[] = ['write', 'shrink', 'grow'];

/** Takes images such that what is measured is what will be mounted, whatever the client does meanwhile. */
export class Images {
  readonly #options: ImagesOptions;

  constructor(options: ImagesOptions) {
    this.#options = options;
  }

  /**
   * The image that is asked for. A descriptor stays its owner's. With `copyNow`, a memfd is copied as it is measured and not after
   * it was let in: for one that surely will be. Throws or rejects with BadFileDescriptor, ImageNotImmutable, ImageNotFound,
   * LimitExceeded, TimedOut.
   */
  take(
    request: ImageRequest,
    peer: Owner,
    policy: Policy,
    copyNow = false,
  ): Promise<TakenImage> | TakenImage {
    switch (request.kind) {
      case 'descriptor':
        return this.#descriptor(request.fd, request.field, peer, copyNow);
      case 'name':
        return this.#found(this.#options.installed.byName(request.name, policy), peer);
      case 'digest':
        return this.#found(this.#options.installed.byDigest(request.digest, policy), peer);
    }
  }

  /** Learns the digests of the installed images anew, so that no request has to. Rejects with SyscallError. */
  index(policy: Policy): Promise<void> {
    return this.#options.installed.index(policy);
  }

  #found(found: InstalledImage | Promise<InstalledImage>, peer: Owner): Promise<TakenImage> | TakenImage {
    return found instanceof Promise
      ? found.then((image) => this.#installed(image, peer))
      : this.#installed(found, peer);
  }

  #installed(image: InstalledImage, peer: Owner): TakenImage {
    const { digest, fd, bytes, builtInSignature } = image;
    const dispose = (): void => {
      image.release();
    };
    return this.#taken(
      { kind: 'installed', digest, fd, bytes, copy: undefined, installed: image, builtInSignature, dispose },
      peer,
    );
  }

  // The calls here that a client's descriptor meets on the loop are answered by the kernel alone: F_GETFL and
  // F_GET_SEALS for any file, fstat for a memfd.
  #descriptor(fd: number, field: string, peer: Owner, copyNow: boolean): Promise<TakenImage> {
    const { access, pathOnly } = getFlags(fd);
    if (pathOnly) throw new BadFileDescriptor({ field, reason: 'opened with O_PATH, which cannot be read' });
    if (access === 'write') throw new BadFileDescriptor({ field, reason: 'opened for writing alone' });
    const seals = getSeals(fd);
    if (seals === undefined) return this.#verity(fd, field, peer);
    const lacking = needed.filter((seal) => !seals.has(seal));
    if (lacking.length === 0) return this.#memfd(fd, field, peer, copyNow);
    const names = lacking.map((seal) => `F_SEAL_${seal.toUpperCase()}`).join(', ');
    throw new ImageNotImmutable({ reason: `the memfd lacks ${names}` });
  }

  async #memfd(fd: number, field: string, peer: Owner, copyNow: boolean): Promise<TakenImage> {
    const found = fstat(fd);
    if (!found.isFile()) throw new BadFileDescriptor({ field, reason: 'not a regular file' });
    const bytes = demandSize(found.size, 'imageBytes', this.#options.imageBytes);
    const { pool, handouts, directory, closing } = this.#options;
    const held = handouts.reserveUnverified(peer, bytes);
    const owned: { file?: OwnedFd; copy?: CopyShare } = {};
    const dispose = (): void => {
      held();
      const { file, copy } = owned;
      // To free the space of a large file takes a while, where no mount keeps it.
      if (file === undefined) copy?.release();
      else closing.close([file.take()], peer, () => copy?.release());
    };
    const options = { owner: peer, stallable: false };
    // Read where it is: what nobody vouches for takes no room on our disk.
    const measure = async (): Promise<Digest> => {
      const { value } = await pool.run<'measure'>({ kind: 'measure', bytes }, [fd], options);
      return value.digest;
    };
    const copy = async (): Promise<Digest> => {
      owned.copy = await handouts.withRoom(() => handouts.reserveCopy(peer, bytes));
      const task = { kind: 'copy', directory, bytes } as const;
      const { fds, value } = await pool.run<'copy'>(task, [fd], options);
      owned.file = new OwnedFd(first(fds));
      return value.digest;
    };
    try {
      const digest = copyNow ? await copy() : await measure();
      const taken: Taken = {
        kind: 'memfd',
        digest,
        get fd() {
          return owned.file?.number ?? fd;
        },
        bytes,
        get copy() {
          return owned.copy;
        },
        installed: undefined,
        dispose,
      };
      if (copyNow) return this.#taken(taken, peer);
      const copyLetIn = async (): Promise<void> => {
        // Seals say that it cannot have changed; what is mounted does not rest on that.
        if ((await copy()) !== digest)
          throw new ImageNotImmutable({ reason: 'the memfd changed while it was read' });
      };
      // Once, however often it is asked for: one that failed is never taken for done.
      let admitted: Promise<void> | undefined;
      return this.#taken(taken, peer, () => (admitted ??= copyLetIn()));
    } catch (error) {
      dispose();
      throw error;
    }
  }

  async #verity(fd: number, field: string, peer: Owner): Promise<TakenImage> {
    const { pool, closing } = this.#options;
    const task = { kind: 'takeVerity', field } as const;
    const { fds, value } = await pool.run<'takeVerity'>(task, [fd], { owner: peer, stallable: true });
    const dispose = (): void => {
      closing.close(fds, peer);
    };
    try {
      const { imageBytesInPlace } = this.#options;
      const bytes = demandSize(BigInt(value.bytes), 'imageBytesInPlace', imageBytesInPlace);
      const taken = {
        kind: 'verity',
        fd: first(fds),
        bytes,
        copy: undefined,
        installed: undefined,
        dispose,
      } as const;
      return this.#taken({ ...taken, digest: value.digest, builtInSignature: value.signature }, peer);
    } catch (error) {
      dispose();
      throw error;
    }
  }

  #taken(taken: Taken, peer: Owner, admit: TakenImage['admit'] = () => undefined): TakenImage {
    const { kind, digest, installed, builtInSignature } = taken;
    const scan = (): Promise<ScannedImage> | ScannedImage =>
      this.#options.contents.get(digest) ?? this.#scan(taken, peer);
    return {
      kind,
      digest,
      get fd() {
        return taken.fd;
      },
      get copy() {
        return taken.copy;
      },
      admit,
      installed,
      ...(installed === undefined ? {} : { location: installed.location }),
      signatureFiles: [installed?.signatureFile, builtInSignature].filter((file) => file !== undefined),
      scan,
      contents: (fileSystem) => {
        if (isScanned(fileSystem)) return scan();
        return fileSystem === 'ddi'
          ? this.#diskContents(taken, peer)
          : this.#superblock(taken, peer, fileSystem);
      },
      disk: () => this.#disk(taken, peer),
      [Symbol.dispose]: () => {
        taken.dispose();
      },
    };
  }

  async #scan(taken: Taken, peer: Owner): Promise<ScannedImage> {
    const { pool, contents, imageBytes } = this.#options;
    demandSize(BigInt(taken.bytes), 'imageBytes', imageBytes);
    const task = { kind: 'scan', bytes: taken.bytes } as const;
    const options = { owner: peer, stallable: taken.kind === 'verity' };
    const { value } = await pool.run<'scan'>(task, [taken.fd], options);
    contents.set(taken.digest, value.scan);
    return value.scan;
  }

  async #diskContents(taken: Taken, peer: Owner): Promise<ImageContents> {
    await this.#disk(taken, peer);
    return { fileSystem: 'ddi', devices: undefined, missingDigest: false };
  }

  #disk(taken: Taken, peer: Owner): Promise<MountedPartition> | MountedPartition {
    const { pool, contents } = this.#options;
    const known = contents.disk(taken.digest);
    if (known !== undefined) return known;
    const task = { kind: 'dissect', bytes: taken.bytes } as const;
    const options = { owner: peer, stallable: taken.kind === 'verity' };
    return pool.run<'dissect'>(task, [taken.fd], options).then(({ value }) => {
      contents.setDisk(taken.digest, value.root);
      return value.root;
    });
  }

  #superblock(
    taken: Taken,
    peer: Owner,
    fileSystem: UnscannedFileSystem,
  ): Promise<ImageContents> | ImageContents {
    const { pool, contents } = this.#options;
    const found = { fileSystem, devices: undefined, missingDigest: false };
    if (contents.isIdentified(taken.digest, fileSystem)) return found;
    const task = { kind: 'identify', bytes: taken.bytes, fileSystem } as const;
    const options = { owner: peer, stallable: taken.kind === 'verity' };
    return pool.run<'identify'>(task, [taken.fd], options).then(() => {
      contents.setIdentified(taken.digest, fileSystem);
      return found;
    });
  }
}

function demandSize(bytes: bigint, limit: 'imageBytes' | 'imageBytesInPlace', value: number): number {
  if (bytes > BigInt(value)) throw new LimitExceeded({ limit, value });
  return Number(bytes);
}

function first(fds: readonly number[]): number {
  const [fd] = fds;
  if (fd === undefined) throw new RangeError('the task gave no descriptor');
  return fd;
}

/** Measures installed images on `pool`, whose storage is the administrator's own and not given up. */
export function measureOnPool(pool: Pool): (fd: number, bytes: number) => Promise<Digest> {
  return async (fd, bytes) => {
    const options = { owner: service.measuring, stallable: false };
    const { value } = await pool.run<'measure'>({ kind: 'measure', bytes }, [fd], options);
    return value.digest;
  };
}
