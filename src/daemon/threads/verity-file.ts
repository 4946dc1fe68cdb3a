import { BadFileDescriptor, ImageNotImmutable } from '../../api/mount-delegation.ts';
import { digestFromBytes, type Digest } from '../../base/digest.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fileSystemMagic, fstat, reopen } from '../../sys/file.ts';
import { foreignVerity, measureVerity, readVeritySignature } from '../../sys/verity.ts';

/**
 * Filesystems of the kernel's own whose answers about fs-verity count, by the magic number of fstatfs(2). The kernel
 * fills it in, not a FUSE server, and a FUSE server would answer FS_IOC_MEASURE_VERITY with whatever it likes.
 */
const localFileSystems: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'],
  [0x9123683e, 'btrfs'],
  [0xf2f52010, 'f2fs'],
  [0x58465342, 'xfs'],
]);

/** Whether `magic` is that of a filesystem that the kernel serves from local storage and that may have fs-verity. */
export function isLocalFileSystem(magic: number): boolean {
  return localFileSystems.has(magic);
}

/** The names of those filesystems, for messages. */
export const localFileSystemNames: string = [...localFileSystems.values()].join(', ');

/** A file whose contents the kernel keeps from changing. */
export interface VerityFile {
  /** Opened anew, read-only. While it stays open nobody gets a lease that could hold up the mount. */
  readonly file: OwnedFd;
  readonly digest: Digest;
  readonly bytes: number;
  /** What fs-verity was enabled with, where that was a signature. */
  readonly signature: Uint8Array | undefined;
}

/**
 * Takes a client's file that has fs-verity on a local filesystem. Every call here may wait for as long as the client
 * likes. Throws BadFileDescriptor with `field`, or ImageNotImmutable.
 */
export function takeVerityFile(fd: number, field: string): VerityFile {
  const found = fstat(fd);
  if (!found.isFile())
    throw new BadFileDescriptor({ field, reason: `not a regular file but ${kindOf(found)}` });
  if (!isLocalFileSystem(fileSystemMagic(fd))) {
    throw new ImageNotImmutable({
      reason: `not a sealed memfd, and its filesystem is none of those whose fs-verity counts (${localFileSystemNames})`,
    });
  }
  using file = openAnew(fd);
  const again = fstat(file.number);
  if (again.dev !== found.dev || again.ino !== found.ino) {
    throw new BadFileDescriptor({ field, reason: 'opening it anew led to another file' });
  }
  const measured = measureVerity(file.number);
  if (measured === undefined) throw new ImageNotImmutable({ reason: 'no fs-verity is enabled on the file' });
  const foreign = foreignVerity(file.number, measured);
  if (foreign !== undefined) {
    throw new ImageNotImmutable({
      reason: `its fs-verity uses ${foreign}; a copy in a sealed memfd would do`,
    });
  }
  const signature = readVeritySignature(file.number);
  return {
    digest: digestFromBytes(measured.digest),
    bytes: Number(again.size),
    signature,
    file: file.moved(),
  };
}

/**
 * The file opened anew, so that neither the client's flags nor its file position matter. O_NONBLOCK: the owner of
 * the file may hold a write lease, for which an open would wait 45 seconds (fcntl(2), F_SETLEASE).
 */
function openAnew(fd: number): OwnedFd {
  try {
    return reopen(fd, { nonBlocking: true });
  } catch (error) {
    if (isSyscallError(error, 'EAGAIN'))
      throw new ImageNotImmutable({ reason: 'somebody holds a lease on the file' });
    throw error;
  }
}

/** What `found` is, for messages. */
export function kindOf(found: {
  isDirectory(): boolean;
  isSocket(): boolean;
  isFIFO(): boolean;
  isBlockDevice(): boolean;
  isCharacterDevice(): boolean;
  isSymbolicLink(): boolean;
}): string {
  if (found.isDirectory()) return 'a directory';
  if (found.isSocket()) return 'a socket';
  if (found.isFIFO()) return 'a pipe';
  if (found.isBlockDevice()) return 'a block device';
  if (found.isCharacterDevice()) return 'a character device';
  if (found.isSymbolicLink()) return 'a symbolic link';
  return 'something without a type';
}
