import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { closeFd } from '../sys/fd.ts';
import type { Watch } from '../sys/readiness.ts';
import { watchReadable, watchWritable } from '../sys/readiness.ts';
import { receiveThrough, sendMessage } from '../sys/socket.ts';
import type { Receiver, Transport } from '../varlink/client.ts';
import { ProtocolError } from '../varlink/error.ts';

interface Outgoing {
  bytes: Uint8Array;
  /** Those that still have to go. */
  fds: readonly number[];
}

const receiveBytes = 64 * 1024;

/** A connected Unix stream socket on Node's event loop, which stays alive until close(). */
export class SocketTransport implements Transport {
  readonly #socket: OwnedFd;
  readonly #buffer = Buffer.alloc(receiveBytes);
  readonly #outgoing: Outgoing[] = [];
  #receiver: Receiver | undefined;
  #readable: Watch | undefined;
  #writable: Watch | undefined;

  /** Takes over `socket`, which does not block. */
  constructor(socket: OwnedFd) {
    this.#socket = socket;
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
    this.#readable = watchReadable(this.#socket.number, () => {
      this.#receive();
    });
  }

  send(bytes: Uint8Array, fds: readonly number[]): void {
    this.#outgoing.push({ bytes, fds });
    if (this.#outgoing.length === 1) this.#flush();
  }

  discard(fds: readonly number[]): void {
    fds.forEach(closeFd);
  }

  close(): void {
    if (!this.#socket.isOpen) return;
    this.#readable?.stop();
    this.#writable?.stop();
    this.#outgoing.length = 0;
    this.#socket.close();
  }

  #flush(): void {
    try {
      for (let next = this.#outgoing[0]; next !== undefined; next = this.#outgoing[0]) {
        const sent = sendMessage(this.#socket.number, next.bytes, next.fds);
        if (sent === 'again') break;
        next.fds = []; // the first byte took them along
        next.bytes = next.bytes.subarray(sent);
        if (next.bytes.length === 0) this.#outgoing.shift();
      }
      this.#watchWritable(this.#outgoing.length > 0);
    } catch (error) {
      // A service that is stopping may have answered something before it hung up: the reading end will say what.
      this.#outgoing.length = 0;
      this.#watchWritable(false);
      if (!isHangUp(error)) this.#end(error);
    }
  }

  #watchWritable(wanted: boolean): void {
    if (wanted) {
      this.#writable ??= watchWritable(this.#socket.number, () => {
        this.#flush();
      });
    } else {
      this.#writable?.stop();
      this.#writable = undefined;
    }
  }

  // One read at a time: the watch comes again for what is left, and after most replies nothing is.
  #receive(): void {
    try {
      const received = receiveThrough(this.#socket.number, this.#buffer, 0);
      if (received.kind === 'again') return;
      if (received.kind === 'truncated') {
        received.fds.forEach(closeFd);
        throw new ProtocolError('descriptors were lost on the way: is the limit of open files reached?');
      }
      if (received.kind === 'end') this.#end(undefined);
      else this.#receiver?.received(this.#buffer.subarray(0, received.bytes), received.fds);
    } catch (error) {
      this.#end(error);
    }
  }

  #end(error: unknown): void {
    this.close();
    this.#receiver?.ended(isHangUp(error) ? undefined : asError(error));
  }
}

/** The other side is gone: nothing more than the end of the connection. */
function isHangUp(error: unknown): boolean {
  return error === undefined || isSyscallError(error, 'EPIPE', 'ECONNRESET');
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
