import { isSyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { createInotify, Inotify } from './inotify.ts';

// inotify(7): files that are written, come, go or get another name; the folder's own end, name, owner and mode.
const IN_ATTRIB = 0x4;
const IN_CLOSE_WRITE = 0x8;
const IN_MOVED_FROM = 0x40;
const IN_MOVED_TO = 0x80;
const IN_CREATE = 0x100;
const IN_DELETE = 0x200;
const IN_DELETE_SELF = 0x400;
const IN_MOVE_SELF = 0x800;
const IN_ONLYDIR = 0x0100_0000;
const changes =
  IN_ATTRIB |
  IN_CLOSE_WRITE |
  IN_MOVED_FROM |
  IN_MOVED_TO |
  IN_CREATE |
  IN_DELETE |
  IN_DELETE_SELF |
  IN_MOVE_SELF |
  IN_ONLYDIR;

/** What is read is not looked at: that something changed is enough. */
const events = ffi.allocate(16 * 1024);

/** Learns that something has changed in folders, not below them and not what (inotify(7)). It keeps the process alive until close(). */
export class FolderWatches {
  readonly #inotify: Inotify;
  readonly #onChange: () => void;

  /** Throws SyscallError, EMFILE where root has no more inotify instances. */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#inotify = new Inotify(createInotify(), () => {
      this.drain();
    });
  }

  /**
   * From now on what changes in the folder at `path` is told, if there is one. False where the kernel has no more watches. Throws
   * SyscallError.
   */
  add(path: string): boolean {
    try {
      this.#inotify.add(path, changes);
      return true;
    } catch (error) {
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR')) return true;
      if (isSyscallError(error, 'ENOSPC')) return false;
      throw error;
    }
  }

  /** Tells of what has changed by now, once. */
  drain(): void {
    let changed = false;
    while (this.#inotify.read(events) !== undefined) changed = true;
    if (changed) this.#onChange();
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#inotify.close();
  }
}
