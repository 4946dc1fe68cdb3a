import * as ffi from './ffi.ts';

/** A callback on a descriptor's readiness, until stop(). */
export interface Watch {
  /** No callback comes after this. To be called before the descriptor is closed; a second time does nothing. */
  stop(): void;
}

type Direction = 'readable' | 'writable';

/** Everything that waits for one descriptor: libuv takes each only once. */
class Watched {
  readonly #fd: number;
  readonly #callbacks: { readable: (() => void) | undefined; writable: (() => void) | undefined } = {
    readable: undefined,
    writable: undefined,
  };
  readonly #due = { readable: false, writable: false };
  #poll: ffi.Poll | undefined;
  #queued = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  add(direction: Direction, callback: () => void): void {
    if (this.#callbacks[direction] !== undefined)
      throw new Error(`descriptor ${this.#fd} is watched already`);
    this.#callbacks[direction] = callback;
    this.#update();
  }

  remove(direction: Direction): void {
    this.#callbacks[direction] = undefined;
    this.#due[direction] = false;
    this.#update();
  }

  #update(): void {
    const events = {
      readable: this.#callbacks.readable !== undefined,
      writable: this.#callbacks.writable !== undefined,
    };
    if (!events.readable && !events.writable) {
      this.#poll?.close();
      this.#poll = undefined;
      watched.delete(this.#fd);
    } else if (this.#poll === undefined) {
      this.#poll = ffi.poll(this.#fd, events, (came) => {
        this.#ready(came);
      });
    } else {
      this.#poll.restart(events);
    }
  }

  // The poll's callback runs outside Node's callback scope, where promises would not go on. An immediate runs in the
  // same turn of the loop, and its callbacks run whole.
  #ready(came: ffi.PollEvents): void {
    this.#due.readable ||= came.readable;
    this.#due.writable ||= came.writable;
    if (this.#queued) return;
    this.#queued = true;
    setImmediate(() => {
      this.#queued = false;
      this.#deliver('readable');
      this.#deliver('writable');
    });
  }

  #deliver(direction: Direction): void {
    if (!this.#due[direction]) return;
    this.#due[direction] = false;
    this.#callbacks[direction]?.();
  }
}

const watched = new Map<number, Watched>();

function watch(fd: number, direction: Direction, callback: () => void): Watch {
  let entry = watched.get(fd);
  if (entry === undefined) {
    entry = new Watched(fd);
    watched.set(fd, entry);
  }
  const owner = entry;
  owner.add(direction, callback);
  let stopped = false;
  return {
    stop: () => {
      if (stopped) return;
      stopped = true;
      owner.remove(direction);
    },
  };
}

/**
 * Calls `callback` on this thread's event loop whenever `fd` (a socket, pipe or pidfd; a regular file ends the process)
 * can be read or its peer has hung up, again and again until that is read or the watch stopped. It keeps the process
 * alive. Throws Error where `fd` is watched for reading already.
 */
export function watchReadable(fd: number, callback: () => void): Watch {
  return watch(fd, 'readable', callback);
}

/** As watchReadable, for when `fd` can be written or its peer has hung up. */
export function watchWritable(fd: number, callback: () => void): Watch {
  return watch(fd, 'writable', callback);
}
