import { ProtocolError, VarlinkError } from './error.ts';
import { Frames, type FrameLimits } from './frames.ts';
import { serviceError } from './service.ts';
import { formatCall, messageLimits, parseReply, type Call, type JsonObject } from './message.ts';

/** What a transport tells its client. */
export interface Receiver {
  /** Bytes came, and these descriptors with them, which pass to the client. The bytes are copied. */
  received(bytes: Uint8Array, fds: readonly number[]): void;
  /** Nothing more will come; `error` says why where it is not that the peer ended the connection. */
  ended(error?: Error): void;
}

/** A connection as the client needs it: a stream of bytes and descriptors each way. */
export interface Transport {
  /** Begins to receive. Called once. */
  start(receiver: Receiver): void;
  /**
   * Sends bytes, in the order of the calls, with the descriptors beside the first byte. The descriptors stay the
   * caller's, who keeps them open until the call is answered.
   */
  send(bytes: Uint8Array, fds: readonly number[]): void;
  /** Closes descriptors that came and that nobody wants. */
  discard(fds: readonly number[]): void;
  /** Ends the connection. `ended` need not be told. */
  close(): void;
}

/** A reply: its parameters, and its descriptors, which pass to the caller. */
export interface Answer<Parameters extends JsonObject = JsonObject> {
  readonly parameters: Parameters;
  readonly fds: readonly number[];
}

/** What a client takes from a service. */
export interface ClientLimits extends FrameLimits {
  /** How deep objects and arrays of a reply may nest. */
  readonly depthMax: number;
}

/** 16 MiB and as many descriptors as the kernel passes with one message (SCM_MAX_FD). */
export const clientLimits: ClientLimits = {
  messageBytesMax: 16 * 1024 * 1024,
  descriptorsMax: 253,
  ...messageLimits,
};

/** A call that waits for its reply. */
interface Waiting {
  /** The call asked for more than one reply. */
  readonly more: boolean;
  readonly answer: (answer: Answer, continues: boolean) => void;
  readonly fail: (error: Error) => void;
}

/**
 * The client's end of a connection, without I/O of its own. Calls may be made while others wait: the service answers
 * them in their order.
 */
export class Client {
  readonly #transport: Transport;
  readonly #limits: ClientLimits;
  readonly #frames: Frames;
  readonly #waiting: Waiting[] = [];
  #ended: Error | undefined;

  constructor(transport: Transport, limits: ClientLimits = clientLimits) {
    this.#transport = transport;
    this.#limits = limits;
    this.#frames = new Frames(limits);
    transport.start({
      received: (bytes, fds) => {
        this.#received(bytes, fds);
      },
      ended: (error) => {
        this.#end(error ?? new ProtocolError('the service ended the connection'));
      },
    });
  }

  /**
   * Calls a method by its whole name. Rejects with the VarlinkError that the service answered
   * (for org.varlink.service, with the class of that name), with ProtocolError where
   * the connection ends or the service breaks the protocol, and with what the transport failed with.
   */
  call(method: string, parameters: JsonObject, fds: readonly number[] = []): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#send({ method, parameters, oneway: false, more: false, upgrade: false }, fds, {
        more: false,
        answer: resolve,
        fail: reject,
      });
    });
  }

  /** Calls a method and asks for no answer. Throws what the connection ended with. */
  oneway(method: string, parameters: JsonObject, fds: readonly number[] = []): void {
    this.#send({ method, parameters, oneway: true, more: false, upgrade: false }, fds, undefined);
  }

  /**
   * Calls a method that may answer more than once; the call is sent at once. Fails as `call` does. Replies that nobody
   * takes any more, because the loop over them was left, are passed over.
   */
  more(method: string, parameters: JsonObject, fds: readonly number[] = []): AsyncIterable<Answer> {
    const replies = new ReplyQueue((unwanted) => {
      this.discard(unwanted);
    });
    this.#send({ method, parameters, oneway: false, more: true, upgrade: false }, fds, {
      more: true,
      answer: (answer, continues) => {
        replies.push(answer, continues);
      },
      fail: (error) => {
        replies.fail(error);
      },
    });
    return replies;
  }

  /** Closes descriptors of an answer that nobody wants. */
  discard(fds: readonly number[]): void {
    if (fds.length > 0) this.#transport.discard(fds);
  }

  /** Ends the connection; calls that wait fail. */
  close(): void {
    this.#end(new ProtocolError('the connection was closed'));
  }

  #send(call: Call, fds: readonly number[], waiting: Waiting | undefined): void {
    if (this.#ended !== undefined) throw this.#ended;
    const bytes = formatCall(call);
    // Before it is sent: the transport may answer, or end, at once.
    if (waiting !== undefined) this.#waiting.push(waiting);
    this.#transport.send(bytes, fds);
  }

  #received(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.#ended !== undefined) {
      this.#transport.discard(fds);
      return;
    }
    try {
      this.#frames.push(bytes, fds);
      for (let next = this.#frames.next(); next !== undefined; next = this.#frames.next()) {
        this.#answer(next.frame, next.fds);
      }
    } catch (error) {
      this.#end(error instanceof Error ? error : new ProtocolError(String(error)));
    }
  }

  #answer(frame: Uint8Array, fds: readonly number[]): void {
    try {
      const { parameters, error, continues } = parseReply(frame, this.#limits);
      const waiting = this.#waiting[0];
      if (waiting === undefined) throw new ProtocolError('a reply that answers no call');
      if (continues && !waiting.more) throw new ProtocolError('a reply that continues, to a call for one');
      if (!continues) this.#waiting.shift();
      if (error === undefined) {
        waiting.answer({ parameters, fds }, continues);
        return;
      }
      const failure = new VarlinkError(error, parameters);
      waiting.fail(serviceError(failure) ?? failure);
    } catch (thrown) {
      this.discard(fds);
      throw thrown;
    }
    this.discard(fds);
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.discard(this.#frames.abandon());
    this.#transport.close();
    for (const waiting of this.#waiting.splice(0)) waiting.fail(error);
  }
}

/** The replies to one call, kept until they are asked for. One loop at a time goes over them. */
class ReplyQueue implements AsyncIterable<Answer>, AsyncIterator<Answer> {
  readonly #discard: (fds: readonly number[]) => void;
  readonly #answers: Answer[] = [];
  #done = false;
  #left = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(discard: (fds: readonly number[]) => void) {
    this.#discard = discard;
  }

  push(answer: Answer, continues: boolean): void {
    if (!continues) this.#done = true;
    if (this.#left) this.#discard(answer.fds);
    else this.#answers.push(answer);
    this.#wake?.();
  }

  fail(error: Error): void {
    this.#done = true;
    this.#error = error;
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Answer, undefined>> {
    while (this.#answers.length === 0 && !this.#done) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const answer = this.#answers.shift();
    if (answer !== undefined) return { value: answer, done: false };
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
    return { value: undefined, done: true };
  }

  return(): Promise<IteratorResult<Answer, undefined>> {
    this.#left = true;
    for (const { fds } of this.#answers.splice(0)) this.#discard(fds);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): AsyncIterator<Answer> {
    return this;
  }
}
