import { readlinkSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { suffixOf } from '../../policy/image-names.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fstat, openFile } from '../../sys/file.ts';
import { descriptorPath } from '../../sys/path.ts';
import { rootOwnedFault } from '../threads/root-owned.ts';

/** An image directory that is open. */
export interface ImageFolder {
  /** Borrowed: valid until the next call. */
  readonly fd: number;
  /** Its path, links resolved. */
  readonly location: string;
}

interface Folder {
  readonly fd: OwnedFd;
  readonly location: string;
  readonly device: number;
  readonly inode: number;
  /** Its time of change, in milliseconds: owner and mode are as they were. */
  readonly changedAt: number;
  /** As performance.now(): the clock may be set back. */
  readonly checkedAt: number;
}

/** How long it counts that only root could write the folders above. */
const checkedMilliseconds = 1000;

/** An image directory's files are walked no deeper, and no further than this many entries. */
const depthMax = 16;
const entriesMax = 65_536;

/** The policy's image directories, kept open. */
export class ImageFolders {
  readonly #open = new Map<string, Folder>();

  /**
   * The directory at `path`, or undefined where there is none. A directory that was replaced is opened anew. Throws
   * NotTrusted where others than root could write it or a folder above it.
   */
  open(path: string): ImageFolder | undefined {
    const found = statSync(path, { throwIfNoEntry: false });
    const known = this.#open.get(path);
    const same = found !== undefined && known?.device === found.dev && known.inode === found.ino;
    const recent = performance.now() - (known?.checkedAt ?? -Infinity) < checkedMilliseconds;
    if (same && recent && known.changedAt === found.ctimeMs) {
      return { fd: known.fd.number, location: known.location };
    }
    known?.fd.close();
    this.#open.delete(path);
    if (found?.isDirectory() !== true) return undefined;
    const fault = rootOwnedFault(path);
    if (fault !== undefined) throw new NotTrusted(fault);
    return this.#keep(path, found.ctimeMs);
  }

  /** Closes them all. */
  close(): void {
    for (const { fd } of this.#open.values()) fd.close();
    this.#open.clear();
  }

  #keep(path: string, changedAt: number): ImageFolder | undefined {
    try {
      const fd = openFile(path, { directory: true });
      const found = fstat(fd.number);
      const location = readlinkSync(descriptorPath(fd.number));
      this.#open.set(path, {
        fd,
        location,
        device: Number(found.dev),
        inode: Number(found.ino),
        changedAt,
        checkedAt: performance.now(),
      });
      return { fd: fd.number, location };
    } catch (error) {
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
  }
}

/** Something that others than root could change. */
export class NotTrusted extends Error {
  override readonly name = 'NotTrusted';
}

/** Others have their turn after so many entries of a folder. */
const entriesPerTurn = 1024;

/**
 * Names of every file below `directory` that has an image's suffix: paths relative to it, without the suffix. `reads` is called
 * with each folder before it is read. Rejects with the system call's error.
 */
export async function imageNames(
  directory: string,
  reads: (folder: string) => void = () => undefined,
): Promise<readonly string[]> {
  const names: string[] = [];
  const folders: { readonly path: string; readonly depth: number }[] = [{ path: '', depth: 0 }];
  let entries = 0;
  // Folders that are found on the way are walked by the same loop.
  for (const folder of folders) {
    const absolute = folder.path === '' ? directory : `${directory}/${folder.path}`;
    reads(absolute);
    for (const entry of await readFolder(absolute)) {
      entries += 1;
      if (entries > entriesMax) break;
      if (entries % entriesPerTurn === 0) await setImmediate();
      const path = folder.path === '' ? entry.name : `${folder.path}/${entry.name}`;
      if (entry.isDirectory() && folder.depth < depthMax) folders.push({ path, depth: folder.depth + 1 });
      const suffix = suffixOf(path);
      if (suffix !== undefined && !entry.isDirectory()) names.push(path.slice(0, -suffix.length));
    }
  }
  return names;
}

/** Read on another thread. What is no folder has no entries. */
async function readFolder(
  path: string,
): Promise<readonly { readonly name: string; isDirectory(): boolean }[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return [];
    throw error;
  }
}
