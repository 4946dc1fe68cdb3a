import { check, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { descriptorPath } from './path.ts';
import { watchReadable, type Watch } from './readiness.ts';

// inotify(7)
const IN_NONBLOCK = 0o4000;
const IN_CLOEXEC = 0o2000000;
const IN_DELETE_SELF = 0x400;
const IN_IGNORED = 0x8000;
const eventBytes = 16;

/** Room for 256 events, which have no names: the root of a filesystem is watched, not what is in it. */
const events = ffi.allocate(256 * eventBytes);

/**
 * Learns when superblocks go. The kernel tells nobody when the last descriptor or mount of one is gone, but it does end
 * an inotify watch on its root, which pins nothing (inotify(7), IN_UNMOUNT and IN_IGNORED). It keeps the process alive
 * until close().
 */
export class UnmountWatches implements Disposable {
  readonly #inotify: OwnedFd;
  readonly #readable: Watch;
  /** By watch descriptor. Two mounts of one superblock have one and the same. */
  readonly #gone = new Map<number, (() => void)[]>();

  /** Throws SyscallError, EMFILE where the kernel has no more of them for this user. */
  constructor() {
    this.#inotify = new OwnedFd(check('inotify_init1', ffi.inotifyInit(IN_NONBLOCK | IN_CLOEXEC)));
    this.#readable = watchReadable(this.#inotify.number, () => {
      this.drain();
    });
  }

  /** Calls `gone` once the superblock of `mount` is gone. Throws SyscallError, ENOSPC where there are no more watches. */
  add(mount: number, gone: () => void): void {
    const path = descriptorPath(mount);
    // Any kind of event would do: the two that count come unasked.
    const watch = ffi.inotifyAddWatch(this.#inotify.number, path, IN_DELETE_SELF);
    check('inotify_add_watch', watch);
    const known = this.#gone.get(watch);
    if (known === undefined) this.#gone.set(watch, [gone]);
    else known.push(gone);
  }

  /** Takes note of what the kernel has said by now. */
  drain(): void {
    for (;;) {
      const bytes = ffi.read(this.#inotify.number, events, events.length);
      if (bytes < 0) {
        const code = lastErrnoName();
        if (code === 'EAGAIN' || code === 'EINTR') return;
        throw new SyscallError('read', code, 'inotify');
      }
      this.#take(bytes);
    }
  }

  close(): void {
    if (!this.#inotify.isOpen) return;
    this.#readable.stop();
    this.#inotify.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #take(bytes: number): void {
    for (let at = 0; at + eventBytes <= bytes; at += eventBytes + events.readUInt32LE(at + 12)) {
      if ((events.readUInt32LE(at + 4) & IN_IGNORED) === 0) continue;
      const watch = events.readInt32LE(at);
      const gone = this.#gone.get(watch) ?? [];
      this.#gone.delete(watch);
      for (const tell of gone) tell();
    }
  }
}
