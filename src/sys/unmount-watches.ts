import { readFileSync } from 'node:fs';
import type { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { Inotify } from './inotify.ts';
import { descriptorPath } from './path.ts';

// inotify(7)
const IN_DELETE_SELF = 0x400;
const IN_Q_OVERFLOW = 0x4000;
const IN_IGNORED = 0x8000;
const eventBytes = 16;

/** Room for 256 events, which have no names: the root of a filesystem is watched, not what is in it. */
const events = ffi.allocate(256 * eventBytes);

/**
 * Learns when superblocks go. The kernel tells nobody when the last descriptor or mount of one is gone, but it does end
 * an inotify watch on its root, which pins nothing (inotify(7), IN_UNMOUNT and IN_IGNORED). Watches live as long as some process
 * has the instance open. It keeps the process alive until close().
 */
export class UnmountWatches {
  readonly #inotify: Inotify;
  /** By watch descriptor. Two mounts of one superblock have one and the same. */
  readonly #gone = new Map<number, (() => void)[]>();

  /** Takes over `inotify`, with the watches that another process may have left in it. */
  constructor(inotify: OwnedFd) {
    this.#inotify = new Inotify(inotify, () => {
      this.drain();
    });
  }

  /**
   * Watches the superblock of `mount`. Answers the watch descriptor, which none that is watched later gets: the kernel gives
   * the next number each time, up to 2^31. Throws SyscallError, ENOSPC where there are no more watches.
   */
  watch(mount: number): number {
    // Any kind of event would do: the two that count come unasked.
    return this.#inotify.add(descriptorPath(mount), IN_DELETE_SELF);
  }

  /** Calls `gone` once the superblock of `watch` is gone. */
  onGone(watch: number, gone: () => void): void {
    const known = this.#gone.get(watch);
    if (known === undefined) this.#gone.set(watch, [gone]);
    else known.push(gone);
  }

  /** Takes note of what the kernel has said by now. */
  drain(): void {
    for (let bytes = this.#inotify.read(events); bytes !== undefined; bytes = this.#inotify.read(events)) {
      this.#take(bytes);
    }
  }

  /** Takes note of what is gone by now, whether or not anybody was told: the kernel lists the watches there are (proc(5), fdinfo). */
  recheck(): void {
    const listed = readFileSync(`/proc/self/fdinfo/${this.#inotify.number}`, 'latin1');
    const living = new Set(
      Array.from(listed.matchAll(/^inotify wd:([0-9a-f]+) /gm), ([, watch = '']) => parseInt(watch, 16)),
    );
    for (const watch of [...this.#gone.keys()]) if (!living.has(watch)) this.#end(watch);
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#inotify.close();
  }

  #take(bytes: number): void {
    for (let at = 0; at + eventBytes <= bytes; at += eventBytes + events.readUInt32LE(at + 12)) {
      const mask = events.readUInt32LE(at + 4);
      // More went than fits the kernel's queue (fs.inotify.max_queued_events).
      if ((mask & IN_Q_OVERFLOW) !== 0) this.recheck();
      else if ((mask & IN_IGNORED) !== 0) this.#end(events.readInt32LE(at));
    }
  }

  #end(watch: number): void {
    const gone = this.#gone.get(watch) ?? [];
    this.#gone.delete(watch);
    for (const tell of gone) tell();
  }
}
