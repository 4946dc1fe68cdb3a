import { readlinkSync, type BigIntStats } from 'node:fs';
import { dirname } from 'node:path';
import { ImageNotImmutable, LimitExceeded } from '../../api/mount-delegation.ts';
import { imageSuffixes } from '../../policy/image-names.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fstat, isMissing, openBeneath, pread } from '../../sys/file.ts';
import { descriptorPath } from '../../sys/path.ts';
import { ImageFolders, NotTrusted } from './image-folders.ts';
import { modeFault, rootOwnedFault } from '../threads/root-owned.ts';

/** Where an image was looked for, and found. */
export interface Places {
  /** Folders in which it would have been found before the others, and the one in which it was. */
  readonly folders: readonly string[];
  /** The image's file, and that of its signature where there is one; no symbolic link leads to either. */
  readonly files: readonly string[];
}

/** An image's file, just opened, and what lies beside it. */
export interface OpenedImage {
  readonly file: OwnedFd;
  readonly found: BigIntStats;
  /** Its path, links resolved. */
  readonly location: string;
  /** What FILE.sig holds; the same object as long as the file stays the same. */
  readonly signature: Uint8Array | undefined;
  /** Where it was looked for; undefined where a symbolic link led to it. */
  readonly places: Places | undefined;
}

/** A signature file as it was read last. */
interface Signature {
  readonly identity: string;
  readonly bytes: Uint8Array;
}

/** Files and folders of which something is remembered. */
const rememberedMax = 16_384;
/** A file that changed so lately could change again without its time of change showing it. */
export const settledMilliseconds = 1000;

/** Opens image files by name, such that only root can have written them. */
export class InstalledFiles {
  readonly #signatureFileBytes: number;
  readonly #folders = new ImageFolders();
  readonly #signatures = new Map<string, Signature>();
  /** When it was looked at, as performance.now(): the clock may be set back. */
  readonly #checkedFolders = new Map<string, number>();

  /** `signatureFileBytes`: a larger signature file is refused. */
  constructor(signatureFileBytes: number) {
    this.#signatureFileBytes = signatureFileBytes;
  }

  /** Closes what is kept open. */
  close(): void {
    this.#folders.close();
  }

  /**
   * Opens image and signature; undefined where no directory has the name. The first that has it wins. Throws
   * ImageNotImmutable, LimitExceeded, SyscallError.
   */
  open(name: string, directories: readonly string[]): OpenedImage | undefined {
    for (const [position, directory] of directories.entries()) {
      const folder = trusting(() => this.#folders.open(directory));
      if (folder === undefined) continue;
      for (const suffix of imageSuffixes) {
        const opened = openImage(folder.fd, `${name}${suffix}`);
        if (opened === undefined) continue;
        const { file, linked } = opened;
        try {
          const found = fstat(file.number);
          if (found.isDirectory()) continue;
          const location = linked
            ? readlinkSync(descriptorPath(file.number))
            : `${folder.location}/${name}${suffix}`;
          this.#demandTrusted(location, folder.location, found);
          const path = `${directory}/${name}${suffix}`;
          const signature = this.#readSignature(folder.fd, `${name}${suffix}.sig`, path);
          const places = linked
            ? undefined
            : {
                folders: directories.slice(0, position + 1).map((each) => dirname(`${each}/${name}`)),
                files: signature === undefined ? [path] : [path, `${path}.sig`],
              };
          return { file: file.moved(), found, location, signature, places };
        } finally {
          file.close();
        }
      }
    }
    return undefined;
  }

  /** Throws ImageNotImmutable unless only root can write the file and the folders above it. */
  #demandTrusted(location: string, directory: string, found: BigIntStats): void {
    if (!found.isFile()) throw new ImageNotImmutable({ reason: `${location} is not a regular file` });
    const fault = modeFault(location, found, false) ?? this.#folderFault(location, directory);
    if (fault !== undefined) throw new ImageNotImmutable({ reason: fault });
  }

  #folderFault(location: string, directory: string): string | undefined {
    const folder = location.slice(0, location.lastIndexOf('/'));
    // The directory itself was looked at as it was opened.
    if (folder === directory) return undefined;
    const now = performance.now();
    if (now - (this.#checkedFolders.get(folder) ?? -Infinity) < settledMilliseconds) return undefined;
    const fault = rootOwnedFault(folder);
    if (fault !== undefined) return fault;
    if (this.#checkedFolders.size >= rememberedMax) this.#checkedFolders.clear();
    this.#checkedFolders.set(folder, now);
    return undefined;
  }

  #readSignature(folder: number, path: string, key: string): Uint8Array | undefined {
    const opened = openImage(folder, path);
    if (opened === undefined) {
      this.#signatures.delete(key);
      return undefined;
    }
    using file = opened.file;
    const found = fstat(file.number);
    const identity = identityOf(found);
    const known = this.#signatures.get(key);
    if (known?.identity === identity) return known.bytes;
    const fault = found.isFile() ? modeFault(path, found, false) : `${path} is not a regular file`;
    if (fault !== undefined) throw new ImageNotImmutable({ reason: `the signature: ${fault}` });
    if (found.size > BigInt(this.#signatureFileBytes)) {
      throw new LimitExceeded({ limit: 'signatureFileBytes', value: this.#signatureFileBytes });
    }
    const bytes = Buffer.alloc(Number(found.size));
    const signature = { identity, bytes: bytes.subarray(0, pread(file.number, bytes, 0)) };
    if (this.#signatures.size >= rememberedMax) this.#signatures.clear();
    // What changed a moment ago may be changing still, within the same tick of the clock.
    if (isSettled(found)) this.#signatures.set(key, signature);
    return signature.bytes;
  }
}

/** Device, inode, time of change and size: another image under the same name differs in one of them. */
export function identityOf(found: BigIntStats): string {
  return `${found.dev}:${found.ino}:${found.ctimeNs}:${found.size}`;
}

/** Whether the file last changed long enough ago for another change to show. */
export function isSettled(found: BigIntStats): boolean {
  return Date.now() - Number(found.ctimeMs) > settledMilliseconds;
}

/** The file at `path` beneath `folder`, and whether a symbolic link led there; undefined where there is none. */
function openImage(folder: number, path: string): { file: OwnedFd; linked: boolean } | undefined {
  try {
    return openUnlinked(folder, path) ?? { file: openBeneath(folder, path, following), linked: true };
  } catch (error) {
    if (isMissing(error)) return undefined;
    if (isSyscallError(error, 'EAGAIN'))
      throw new ImageNotImmutable({ reason: `somebody holds a lease on ${path}` });
    if (isSyscallError(error, 'EXDEV', 'ELOOP')) {
      throw new ImageNotImmutable({ reason: `${path} leads out of its image directory` });
    }
    throw error;
  }
}

const following = { nonBlocking: true, followSymlinks: true } as const;

/** As openImage; undefined where there is a symbolic link on the way. */
function openUnlinked(folder: number, path: string): { file: OwnedFd; linked: boolean } | undefined {
  try {
    return { file: openBeneath(folder, path, { nonBlocking: true }), linked: false };
  } catch (error) {
    if (isSyscallError(error, 'ELOOP')) return undefined;
    throw error;
  }
}

function trusting<Result>(open: () => Result): Result {
  try {
    return open();
  } catch (error) {
    if (error instanceof NotTrusted) throw new ImageNotImmutable({ reason: error.message });
    throw error;
  }
}
