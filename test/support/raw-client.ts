import { closeFd } from '../../src/sys/fd.ts';
import { connectUnix, receiveMessage, sendMessage, shutdownSocket } from '../../src/sys/socket.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { watchReadable } from '../../src/sys/readiness.ts';
import { Frames } from '../../src/varlink/frames.ts';
import { formatCall, parseReply, type JsonObject, type Reply } from '../../src/varlink/message.ts';

/** A reply and the descriptors that came with it, which belong to whoever received it. */
export interface RawReply extends Reply {
  readonly fds: readonly number[];
}

const buffer = Buffer.alloc(64 * 1024);
export const interfaceName = 'io.cfsmountd.MountDelegation';

/** A client that sends what it is told, well-formed or not, and waits for whole replies. */
export class RawClient {
  readonly socket: OwnedFd;
  readonly #frames = new Frames({ messageBytesMax: 1024 * 1024, descriptorsMax: 253 });

  /** Connects to a path, or takes over a socket that is connected. */
  constructor(to: string | OwnedFd) {
    this.socket = typeof to === 'string' ? connectUnix(to) : to;
  }

  /** Sends bytes as they are, as far as the socket takes them at once. */
  send(bytes: Uint8Array, fds: readonly number[] = []): number {
    const sent = sendMessage(this.socket.number, bytes, fds);
    return sent === 'again' ? 0 : sent;
  }

  /** Sends a call and waits for its reply. A method without a dot is one of the interface's. */
  async call(method: string, parameters: JsonObject = {}, fds: readonly number[] = []): Promise<RawReply> {
    const name = method.includes('.') ? method : `${interfaceName}.${method}`;
    this.send(formatCall({ method: name, parameters, oneway: false, more: false, upgrade: false }), fds);
    const reply = await this.receive();
    if (reply === undefined) throw new Error('the service ended the connection');
    return reply;
  }

  /** The next reply, or undefined once the service has ended the connection. */
  async receive(): Promise<RawReply | undefined> {
    for (;;) {
      const next = this.#frames.next();
      if (next !== undefined) return { ...parseReply(next.frame), fds: next.fds };
      if (!(await this.#read())) return undefined;
    }
  }

  /** Tells the service that nothing more will be sent. */
  endSending(): void {
    shutdownSocket(this.socket.number, 'write');
  }

  /** Ends the connection, and closes what was received and not taken. */
  close(): void {
    for (const fd of this.#frames.abandon()) closeFd(fd);
    this.socket.close();
  }

  async #read(): Promise<boolean> {
    for (;;) {
      let message;
      try {
        message = receiveMessage(this.socket.number, buffer);
      } catch {
        return false;
      }
      if (message.kind === 'end' || message.kind === 'truncated') return false;
      if (message.kind === 'data') {
        this.#frames.push(buffer.subarray(0, message.bytes), message.fds);
        return true;
      }
      await readable(this.socket.number);
    }
  }
}

function readable(fd: number): Promise<void> {
  return new Promise((resolve) => {
    const watch = watchReadable(fd, () => {
      watch.stop();
      resolve();
    });
  });
}
