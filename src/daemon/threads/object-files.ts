import { statfsSync } from 'node:fs';
import { BadFileDescriptor, KernelUnsupported, SystemError } from '../../api/mount-delegation.ts';
import type { Digest } from '../../base/digest.ts';
import { makeDirectory } from '../../store/make-directory.ts';
import { StoreError } from '../../store/objects.ts';
import { lockStore } from '../../store/store-lock.ts';
import { errorCode, UnfinishedFile } from '../../store/unfinished-file.ts';
import { isSyscallError, SyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { duplicate, fstat, openBeneath, openTmpfile, pread, reopen, writeAll } from '../../sys/file.ts';
import { descriptorPath } from '../../sys/path.ts';
import { measureFile } from './copy-image.ts';
import { modeFault } from './root-owned.ts';
import { kindOf } from './verity-file.ts';

// What is done on a thread to add files of a client's to a store. `examineFiles` and `fillFiles` touch the client's files
// and may wait for as long as the client likes; the others touch the store alone, and may not.

/** Everybody may read an object, for overlayfs hides nothing that a mount shows; nobody may write it. */
const objectMode = 0o444;

/** The file in a client's descriptor. */
export interface FileFacts {
  /** What it is, in words; undefined for a regular file. */
  readonly foreignKind: string | undefined;
  /** The size that it claims to have; it may be another one as it is read. */
  readonly bytes: number;
}

/** Part of a client's file, which is to be copied to the same place. `field` is what errors call the descriptor. */
export interface Slice {
  readonly field: string;
  readonly from: number;
  readonly bytes: number;
}

/** What the files in clients' descriptors claim to be. Throws BadFileDescriptor where even that cannot be told. */
export function examineFiles(fds: readonly number[], fields: readonly string[]): FileFacts[] {
  return fds.map((fd, index) =>
    ofClient(fields[index], () => {
      const found = fstat(fd);
      return { foreignKind: found.isFile() ? undefined : kindOf(found), bytes: Number(found.size) };
    }),
  );
}

/**
 * Makes `count` files without a name on the filesystem of the directory `store`, where `bytes` bytes more have room without
 * what is reserved for root. They are open for reading alone: fs-verity is only enabled where nobody has a file open for
 * writing. Throws SyscallError, KernelUnsupported where such files cannot be made.
 */
export function makeFiles(store: number, count: number, bytes: number): OwnedFd[] {
  const { bavail, bsize } = named(() => statfsSync(descriptorPath(store)));
  if (bytes > bavail * bsize) throw new SyscallError('statfs', 'ENOSPC');
  const made: OwnedFd[] = [];
  try {
    while (made.length < count) {
      using file = makeFile(store);
      made.push(reopen(file.number));
    }
    return made;
  } catch (error) {
    for (const file of made) file.close();
    throw error;
  }
}

function makeFile(store: number): OwnedFd {
  try {
    return openTmpfile(store);
  } catch (error) {
    // A file with a name would stay behind if the service were killed.
    if (!isSyscallError(error, 'EOPNOTSUPP', 'EISDIR')) throw error;
    throw new KernelUnsupported({
      feature: 'files without a name (O_TMPFILE) on the filesystem of the store',
    });
  }
}

/**
 * Copies each slice of the client's file `sources[i]` into `targets[i]`, which makeFiles made. Throws BadFileDescriptor for a
 * file that cannot be read or ends too early, SyscallError where the store cannot be written.
 */
export function fillFiles(
  sources: readonly number[],
  targets: readonly number[],
  slices: readonly Slice[],
): void {
  const buffer = Buffer.allocUnsafe(Math.min(bufferBytes, Math.max(1, ...slices.map(({ bytes }) => bytes))));
  for (const [index, slice] of slices.entries()) {
    using target = reopen(targets[index] ?? -1, { access: 'write' });
    fillSlice(sources[index] ?? -1, target.number, slice, buffer);
  }
}

const bufferBytes = 1024 * 1024;

function fillSlice(source: number, target: number, { field, from, bytes }: Slice, buffer: Uint8Array): void {
  for (let done = 0; done < bytes;) {
    const room = buffer.subarray(0, Math.min(buffer.length, bytes - done));
    const count = ofClient(field, () => pread(source, room, from + done));
    if (count === 0) {
      throw new BadFileDescriptor({
        field,
        reason: `it ends after ${from + done} bytes, and was longer before`,
      });
    }
    writeAll(target, room.subarray(0, count), from + done);
    done += count;
  }
}

/** What goes wrong with a client's file is told of its descriptor. */
function ofClient<Result>(field: string | undefined, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    throw new BadFileDescriptor({ field: field ?? '', reason: `it cannot be read (${error.code})` });
  }
}

/** The digests of files that makeFiles made and fillFiles has filled, of these sizes. */
export function measureFiles(files: readonly number[], sizes: readonly number[]): Digest[] {
  return files.map((file, index) => measureFile(file, sizes[index] ?? 0));
}

/**
 * Gives the files their names in the directory `store` (`paths`, such as "ab/cdef…"), once their contents are on the disk and,
 * where the filesystem has it, fs-verity is on. Answers for each whether there was none of that name before. Throws
 * SyscallError, SystemError for a store in which something is not as it should be.
 */
export function keepFiles(store: number, files: readonly number[], paths: readonly string[]): boolean[] {
  const lock = lockForAdding(store);
  const unfinished: UnfinishedFile[] = [];
  try {
    for (const file of files) unfinished.push(UnfinishedFile.adopt(duplicate(file).take()));
    named(() => {
      for (const file of unfinished) file.beginFinish(objectMode);
      for (const file of unfinished) file.endFinish(true);
    });
    return unfinished.map((file, index) => publish(store, file, paths[index] ?? ''));
  } finally {
    for (const file of unfinished) file[Symbol.dispose]();
    lock.close();
  }
}

/** Nothing is named while objects are being removed: what is found to be there might go a moment later. */
function lockForAdding(store: number): OwnedFd {
  try {
    return lockStore(descriptorPath(store), 'add');
  } catch (error) {
    if (error instanceof StoreError) throw notInOrder(error.reason);
    throw error;
  }
}

function publish(store: number, file: UnfinishedFile, path: string): boolean {
  const [folderName = '', name = ''] = path.split('/');
  using folder = openFolder(store, folderName);
  if (file.publish(`${descriptorPath(folder.number)}/${name}`) === 'new') return true;
  const bytes = fstat(file.fd).size;
  using there = openBeneath(folder.number, name, { pathOnly: true });
  const found = fstat(there.number);
  if (found.isFile() && found.size === bytes) return false;
  throw notInOrder(`the object ${path} in the store is damaged; see "cfs-mountctl store check"`);
}

/** The folder of objects, made where it is missing. Root writes there, and would follow whoever else could change it. */
function openFolder(store: number, name: string): OwnedFd {
  named(() => {
    makeDirectory(`${descriptorPath(store)}/${name}`);
  });
  using folder = openBeneath(store, name, { directory: true });
  const fault = modeFault(name, fstat(folder.number), false);
  if (fault !== undefined) throw notInOrder(`in the store, ${fault}`);
  return folder.moved();
}

function notInOrder(detail: string): SystemError {
  return new SystemError({ call: '', errno: '', detail });
}

/** node:fs says errors in its own way; here they are SyscallError, as all others. */
function named<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined || isSyscallError(error) || !(error instanceof Error)) throw error;
    throw new SyscallError('syscall' in error ? String(error.syscall) : '', code);
  }
}
