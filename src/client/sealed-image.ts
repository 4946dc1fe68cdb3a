import type { Digest } from '../base/digest.ts';
import { digestFromBytes } from '../base/digest.ts';
import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import {
  addSeals,
  copyContent,
  createMemfd,
  duplicate,
  fileSystemMagic,
  fileSystemMagics,
  fstat,
  getFlags,
  getSeals,
  openFile,
  reopen,
} from '../sys/file.ts';
import { foreignVerity, measureVerity } from '../sys/verity.ts';

/** An image that can no longer change, as the service takes it. */
export interface ImmutableImage {
  readonly fd: OwnedFd;
  /** How it is kept from changing. */
  readonly kind: 'memfd' | 'verity';
  /** Its fs-verity digest, where the filesystem says it. The service measures for itself. */
  readonly digest: Digest | undefined;
}

/** Filesystems whose fs-verity the service believes; it says no to others, so the file is copied there. */
const verityFileSystems: readonly number[] = [
  fileSystemMagics.ext4,
  fileSystemMagics.btrfs,
  fileSystemMagics.f2fs,
  fileSystemMagics.xfs,
];

/**
 * Opens the image file at `path` in a form that cannot change: as it is where it has fs-verity or is a memfd that is
 * sealed, else as a copy in a sealed memfd. Throws SyscallError, RangeError for what is no regular file or empty.
 */
export function openImmutableImage(path: string): ImmutableImage {
  // Without O_NONBLOCK, opening a FIFO would wait for its writer.
  using file = openFile(path, { nonBlocking: true });
  return immutableImage(file.number, path);
}

/** As openImmutableImage, of a file that is open already; `file` stays the caller's. `shown` is what errors call it. */
export function immutableImage(file: number, shown: string): ImmutableImage {
  if (getFlags(file).pathOnly) {
    using opened = reopen(file, { nonBlocking: true });
    return immutableImage(opened.number, shown);
  }
  if (!fstat(file).isFile()) throw new RangeError(`${shown} is not a regular file`);
  if (isSealed(file)) return { fd: duplicate(file), kind: 'memfd', digest: undefined };
  const digest = trustedVerity(file);
  if (digest !== undefined) return { fd: reopen(file), kind: 'verity', digest };
  return { fd: sealedCopy(file, shown), kind: 'memfd', digest: undefined };
}

/**
 * A memfd with the content of the file `file`, sealed against every change. It is read from its beginning to its end,
 * whatever position the descriptor has. Throws SyscallError: ENOSPC or ENOMEM where memory does not suffice.
 */
export function sealedCopy(file: number, shown: string): OwnedFd {
  using memfd = createMemfd('cfs-image');
  const bytes = copyContent(file, memfd.number, { bytesMax: Number.MAX_SAFE_INTEGER });
  if (bytes === 0) throw new RangeError(`${shown} is empty`);
  addSeals(memfd.number, ['write', 'shrink', 'grow', 'seal']);
  return memfd.moved();
}

function isSealed(file: number): boolean {
  const seals = getSeals(file);
  return seals !== undefined && seals.has('write') && seals.has('shrink') && seals.has('grow');
}

function trustedVerity(file: number): Digest | undefined {
  if (!verityFileSystems.includes(fileSystemMagic(file))) return undefined;
  try {
    const measured = measureVerity(file);
    if (measured === undefined || foreignVerity(file, measured) !== undefined) return undefined;
    return digestFromBytes(measured.digest);
  } catch (error) {
    // The service may see it otherwise, but a copy is right in any case.
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}
