import { ProtocolError } from './error.ts';

/** What one connection may hold of messages that are not yet taken. */
export interface FrameLimits {
  /** Bytes of one message, without its NUL. */
  readonly messageBytesMax: number;
  /** Descriptors that come with one message. */
  readonly descriptorsMax: number;
}

/** A message's bytes, without the NUL, and its descriptors, which belong to whoever takes the frame. */
export interface Frame {
  readonly frame: Uint8Array;
  readonly fds: readonly number[];
}

/** Descriptors that arrived, and the place in the stream where the message begins that they belong to. */
interface Arrival {
  readonly offset: number;
  readonly fds: readonly number[];
}

const empty = new Uint8Array(0);

/**
 * Cuts a stream of bytes and descriptors into messages, each ended by a NUL. No I/O: bytes are pushed in as they
 * arrive, and complete messages are taken out.
 *
 * A sender passes descriptors beside the first byte of their message. recvmsg(2) on a stream socket ends with the bytes
 * that descriptors came with, but may put earlier bytes in front that came without any (net/unix/af_unix.c,
 * unix_stream_read_generic). So the descriptors of a chunk belong to the last message that begins in it, and to the one
 * under way where none begins. Where each read ends with a message at the latest, this leaves no doubt.
 */
export class Frames {
  readonly #limits: FrameLimits;
  /** Holds what is pending between #from and #to. Frames taken are views of what lies before #from. */
  #held: Uint8Array = empty;
  #from = 0;
  #to = 0;
  /** Where the message begins that is not complete; #to where there is none. */
  #tail = 0;
  /** The place in the stream of #held's first byte. */
  #origin = 0;
  #arrivals: Arrival[] = [];

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** The bytes held: of complete messages that were not taken, and of the one that is not complete. */
  get pendingBytes(): number {
    return this.#to - this.#from;
  }

  /**
   * Takes over a copy of `bytes`, and the descriptors that came with them, whether it throws or not. Throws ProtocolError
   * where a message is too long or has too many descriptors; the connection is to be ended then.
   */
  push(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#makeRoom(bytes.length);
    this.#held.set(bytes, this.#to);
    if (fds.length > 0) this.#arrivals.push({ offset: this.#origin + this.#lastBegin(bytes), fds });
    const last = bytes.lastIndexOf(0);
    if (last !== -1) this.#tail = this.#to + last + 1;
    this.#to += bytes.length;
    this.#checkLength(this.#to - this.#tail);
    if (fds.length > 0) this.#checkDescriptors();
  }

  /** Takes out the next complete message; undefined where there is none yet. Throws ProtocolError where it is too long. */
  next(): Frame | undefined {
    if (this.#from === this.#tail) return undefined;
    const end = this.#held.indexOf(0, this.#from);
    this.#checkLength(end - this.#from);
    const frame = this.#held.subarray(this.#from, end);
    const place = this.#origin + end;
    this.#from = end + 1;
    if (this.#from === this.#to) this.#release();
    if (this.#arrivals.length === 0) return { frame, fds: [] };
    const mine = this.#arrivals.filter(({ offset }) => offset <= place);
    this.#arrivals = this.#arrivals.filter(({ offset }) => offset > place);
    return { frame, fds: mine.flatMap(({ fds }) => fds) };
  }

  /** Forgets everything, and gives back the descriptors that no message took. */
  abandon(): number[] {
    const fds = this.#arrivals.flatMap((arrival) => arrival.fds);
    this.#arrivals = [];
    this.#held = empty;
    this.#from = this.#to = this.#tail = 0;
    return fds;
  }

  /** Nothing is pending: the buffer, as large as a message was, lives no longer than the frames that are views of it. */
  #release(): void {
    this.#origin += this.#from;
    this.#held = empty;
    this.#from = this.#to = this.#tail = 0;
  }

  /** Room for `count` bytes at #to, in a new buffer where needed: what lies before #from is never written again. */
  #makeRoom(count: number): void {
    if (this.#to + count <= this.#held.length) return;
    const pending = this.pendingBytes;
    // A message that comes whole is copied once; one that comes in bits, amortized.
    const grown = Buffer.allocUnsafe(pending === 0 ? count : 2 * (pending + count));
    grown.set(this.#held.subarray(this.#from, this.#to));
    this.#held = grown;
    this.#origin += this.#from;
    this.#tail -= this.#from;
    this.#from = 0;
    this.#to = pending;
  }

  /** Where in #held the last message begins that has a byte in the chunk, which is about to be added at #to. */
  #lastBegin(chunk: Uint8Array): number {
    const before = chunk.subarray(0, -1).lastIndexOf(0);
    return before === -1 ? this.#tail : this.#to + before + 1;
  }

  #checkLength(length: number): void {
    if (length <= this.#limits.messageBytesMax) return;
    throw new ProtocolError(`a message of more than ${this.#limits.messageBytesMax} bytes`);
  }

  #checkDescriptors(): void {
    const last = this.#arrivals.at(-1)?.offset;
    let count = 0;
    for (const { offset, fds } of this.#arrivals) if (offset === last) count += fds.length;
    if (count <= this.#limits.descriptorsMax) return;
    throw new ProtocolError(`more than ${this.#limits.descriptorsMax} descriptors with a message`);
  }
}
