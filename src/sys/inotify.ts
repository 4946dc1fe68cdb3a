import { readlinkSync } from 'node:fs';
import { check, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { descriptorPath } from './path.ts';
import { watchReadable, type Watch } from './readiness.ts';

const IN_NONBLOCK = 0o4000;
const IN_CLOEXEC = 0o2000000;

/** An inotify instance, for Inotify (inotify_init1(2)). Throws SyscallError, EMFILE where root has no more of them. */
export function createInotify(): OwnedFd {
  return new OwnedFd(check('inotify_init1', ffi.inotifyInit(IN_NONBLOCK | IN_CLOEXEC)));
}

/** Whether `fd` is an inotify instance. */
export function isInotify(fd: number): boolean {
  return readlinkSync(descriptorPath(fd)) === 'anon_inode:inotify';
}

/** Watches of files and folders (inotify(7)). It keeps the process alive until close(). */
export class Inotify {
  readonly #fd: OwnedFd;
  readonly #readable: Watch;

  /** Takes over `fd`. `due` is called when there is something to read. */
  constructor(fd: OwnedFd, due: () => void) {
    this.#fd = fd;
    this.#readable = watchReadable(fd.number, due);
  }

  /** The descriptor's number, while it is open. */
  get number(): number {
    return this.#fd.number;
  }

  /** Watches what is at `path` for the events in `mask`; the watch descriptor. Throws SyscallError, ENOSPC where there are no more. */
  add(path: string, mask: number): number {
    return check('inotify_add_watch', ffi.inotifyAddWatch(this.#fd.number, path, mask), path);
  }

  /** Reads events into `into`; how many bytes, or undefined where there are none. Throws SyscallError. */
  read(into: Uint8Array): number | undefined {
    const bytes = ffi.read(this.#fd.number, into, into.length);
    if (bytes >= 0) return bytes;
    const code = lastErrnoName();
    if (code === 'EAGAIN' || code === 'EINTR') return undefined;
    throw new SyscallError('read', code, 'inotify');
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    this.#readable.stop();
    this.#fd.close();
  }
}
