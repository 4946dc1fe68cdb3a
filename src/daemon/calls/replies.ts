import { sendMessage } from '../../sys/socket.ts';
import type { CallContext } from './call.ts';

/** A reply on its way: the bytes that are left, and the descriptors, which go with the first byte. */
interface Outgoing {
  bytes: Uint8Array;
  fds: readonly number[];
  begun: boolean;
  readonly context: CallContext;
}

/** What the replies of a connection need of it. */
export interface RepliesOptions {
  readonly socket: number;
  /** The number of the policy in force. */
  readonly generation: () => number;
  /** Takes over descriptors that were sent or will not be, and whose closing may hang. */
  readonly close: (fds: readonly number[]) => void;
  /** Takes over a mount that was sent or will not be, with no storage of a client's behind it. */
  readonly discard: (mount: number) => void;
  /** What is said in place of a reply that a policy decided which is no longer in force. */
  readonly outdated: () => Uint8Array;
}

/** The replies of one connection, in order, as far as its socket does not take them yet. */
export class Replies {
  readonly #options: RepliesOptions;
  readonly #queue: Outgoing[] = [];

  constructor(options: RepliesOptions) {
    this.#options = options;
  }

  /** Whether everything is sent. */
  get empty(): boolean {
    return this.#queue.length === 0;
  }

  /** Takes over a reply and its descriptors. Nothing is sent before `flush`. */
  push(bytes: Uint8Array, fds: readonly number[], context: CallContext): void {
    this.#queue.push({ bytes, fds, begun: false, context });
  }

  /** Sends what the socket takes; whether all of it went. Throws SyscallError, EPIPE where the peer is gone. */
  flush(): boolean {
    for (let reply = this.#queue[0]; reply !== undefined; reply = this.#queue[0]) {
      if (!this.#send(reply)) return false;
      this.#queue.shift();
    }
    return true;
  }

  /** Gives up what is not sent. */
  abandon(): void {
    for (const reply of this.#queue.splice(0)) this.#close(reply);
  }

  #send(reply: Outgoing): boolean {
    if (!reply.begun) this.#refuseOutdated(reply);
    while (reply.bytes.length > 0) {
      const sent = sendMessage(this.#options.socket, reply.bytes, reply.fds);
      if (sent === 'again') return false;
      reply.begun = true;
      reply.bytes = reply.bytes.subarray(sent);
      this.#close(reply);
    }
    return true;
  }

  // Looked at with the first byte, since the descriptors go with it: from the moment that a new policy is in force,
  // nothing that the old one decided leaves the daemon.
  #refuseOutdated(reply: Outgoing): void {
    const { decidedBy } = reply.context;
    if (decidedBy === undefined || decidedBy === this.#options.generation()) return;
    this.#close(reply);
    reply.bytes = this.#options.outdated();
  }

  // The receiver may have closed its descriptor already, and then this is what takes the mount apart.
  #close(reply: Outgoing): void {
    const { fds } = reply;
    if (fds.length === 0) return;
    reply.fds = [];
    if (reply.context.ownStorage) fds.forEach(this.#options.discard);
    else this.#options.close(fds);
  }
}
