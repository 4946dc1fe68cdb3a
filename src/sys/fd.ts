import { check } from './errno.ts';
import * as ffi from './ffi.ts';

/** Closes `fd`. EINTR counts as closed, as on Linux it is (close(2)). Throws SyscallError for EBADF, a bug. */
export function closeFd(fd: number): void {
  if (ffi.close(fd) < 0 && ffi.lastErrno() === 9) check('close', -1, `descriptor ${fd}`);
}

/**
 * A file descriptor that somebody owns: closed once, by close() or at the end of its `using` block, unless take()
 * passed it on before.
 */
export class OwnedFd implements Disposable {
  #fd: number;
  readonly #close: (fd: number) => void;

  /** Takes over `fd`. `close` is how it is closed; a test's fake kernel brings its own. */
  constructor(fd: number, close: (fd: number) => void = closeFd) {
    this.#fd = fd;
    this.#close = close;
  }

  /** The number, to be used while this object owns it. Throws once it is closed or taken: that is a bug. */
  get number(): number {
    if (this.#fd < 0) throw new Error('this descriptor is closed or was taken');
    return this.#fd;
  }

  /** Whether the descriptor is still owned here. */
  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Passes the ownership to the caller, who closes the descriptor. */
  take(): number {
    const fd = this.number;
    this.#fd = -1;
    return fd;
  }

  /** The same descriptor in a new owner: for `return made.moved()` out of a `using` block. */
  moved(): OwnedFd {
    return new OwnedFd(this.take(), this.#close);
  }

  /** Closes it, where it is still owned. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
