import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { isSyscallError } from '../../sys/errno.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { isListeningUnixStream } from '../../sys/peer.ts';
import { watchReadable, type Watch } from '../../sys/readiness.ts';
import { acceptUnix, listenUnix } from '../../sys/socket.ts';

/** What the listener reports to. */
export interface ListenerOptions {
  /** Takes over a connection. */
  readonly accepted: (socket: OwnedFd) => void;
  /** Told that connections could not be accepted; not more often than once a second. */
  readonly failed: (error: unknown) => void;
}

const backlog = 1024;
/** Connections accepted in one turn of the event loop, so that a flood of them leaves others their turn. */
const acceptedPerTurn = 32;
/** After accept4(2) failed for want of descriptors or memory: trying again at once would spin. */
const pauseMilliseconds = 1000;

/** The sockets that the service listens on. */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #sockets: readonly OwnedFd[];
  readonly #own: { readonly path: string; readonly inode: bigint } | undefined;
  #watches: Watch[] = [];
  #pause: NodeJS.Timeout | undefined;

  private constructor(sockets: readonly OwnedFd[], own: string | undefined, options: ListenerOptions) {
    this.#sockets = sockets;
    this.#own = own === undefined ? undefined : { path: own, inode: lstatSync(own, { bigint: true }).ino };
    this.#options = options;
    this.#watch();
  }

  /**
   * Listens at `path`, mode 0666: every user may connect, and the policy decides. A stale socket there is replaced;
   * the folder is made where it is missing and never removed, since containers have it bound. Throws SyscallError,
   * EADDRINUSE where another process serves the path.
   */
  static bind(path: string, options: ListenerOptions): Listener {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    return new Listener([listenUnix(path, 0o666, backlog)], path, options);
  }

  /** Serves sockets that the service manager opened (sd_listen_fds(3)); they stay when this process ends. */
  static inherit(fds: readonly number[], options: ListenerOptions): Listener {
    for (const fd of fds) {
      if (!isListeningUnixStream(fd))
        throw new Error(`descriptor ${fd} of LISTEN_FDS is no listening Unix stream socket`);
    }
    return new Listener(
      fds.map((fd) => new OwnedFd(fd)),
      undefined,
      options,
    );
  }

  /** Accepts nothing more, and removes the socket that bind made, where it still is the one at that path. */
  close(): void {
    clearTimeout(this.#pause);
    this.#unwatch();
    for (const socket of this.#sockets) socket.close();
    const own = this.#own;
    if (own === undefined) return;
    const found = lstatSync(own.path, { bigint: true, throwIfNoEntry: false });
    if (found?.ino === own.inode) unlinkSync(own.path);
  }

  #watch(): void {
    this.#watches = this.#sockets.map((socket) =>
      watchReadable(socket.number, () => {
        this.#accept(socket);
      }),
    );
  }

  #unwatch(): void {
    for (const watch of this.#watches.splice(0)) watch.stop();
  }

  #accept(listening: OwnedFd): void {
    try {
      for (let count = 0; count < acceptedPerTurn; count += 1) {
        const socket = acceptUnix(listening.number);
        if (socket === undefined) return;
        this.#options.accepted(socket);
      }
    } catch (error) {
      if (!isSyscallError(error)) throw error;
      this.#options.failed(error);
      this.#unwatch();
      this.#pause = setTimeout(() => {
        this.#watch();
      }, pauseMilliseconds);
    }
  }
}
