import type { OwnedFd } from '../../sys/fd.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { watchReadable, watchWritable, type Watch } from '../../sys/readiness.ts';
import { receiveThrough } from '../../sys/socket.ts';
import { ProtocolError } from '../../varlink/error.ts';
import { Frames } from '../../varlink/frames.ts';
import { formatReply, parseCall } from '../../varlink/message.ts';
import type { Server } from '../../varlink/server.ts';
import type { Log } from '../calls/audit.ts';
import type { CallContext } from '../calls/call.ts';
import type { Owner } from '../callers/owner.ts';
import { giveUpSocket } from './give-up-socket.ts';
import { limits } from '../callers/limits.ts';
import type { Peer } from '../callers/peer.ts';
import { policyChangedReply } from '../calls/refusal.ts';
import { Replies } from '../calls/replies.ts';
import type { Shares } from '../callers/shares.ts';
import type { Turns } from './turns.ts';

/** Closes what peers sent, where a close that hangs holds up nobody but its user (closing.ts). */
export interface Closers {
  close(fds: readonly number[], owner: Owner, closed?: () => void): void;
  /** How many descriptors of the user are not closed yet. */
  backlog(user: number): number;
}

/** What all connections share. */
export interface Serving {
  readonly server: Server<CallContext>;
  readonly turns: Turns;
  readonly descriptors: Shares;
  /** Bytes of messages that are not complete, or whose call is waiting or under way. */
  readonly buffered: Shares;
  readonly closing: Closers;
  /** Takes over a mount that was made and passed on, with no storage of a client's behind it. */
  readonly discard: (mount: number) => void;
  readonly log: Log;
  /** The number of the policy in force; a reply that an older one decided is not sent. */
  readonly generation: () => number;
  /** Told once, when nothing of the connection is left, the call under way included. */
  readonly ended: (connection: Connection) => void;
}

/** A call that waits for its turn, or whose handler runs. */
interface UnderWay {
  readonly frame: Uint8Array;
  readonly context: CallContext;
  readonly begin: () => void;
  begun: boolean;
}

// Frames copies what it is given, so that one buffer serves every connection.
const received = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * One peer's connection: bytes and descriptors in, one call at a time in the order in which they came, replies out.
 * While a call is under way nothing more is read, so that what a peer sends ahead waits in its own socket.
 */
export class Connection {
  readonly peer: Peer;
  readonly #serving: Serving;
  readonly #socket: OwnedFd;
  readonly #replies: Replies;
  readonly #frames: Frames = new Frames({
    messageBytesMax: limits.messageBytes,
    descriptorsMax: limits.messageDescriptors,
  });
  #reading: Watch | undefined;
  #writing: Watch | undefined;
  #call: UnderWay | undefined;
  #dueAt: number | undefined;
  /** When the last call ended, or the connection began. */
  #endedAt = performance.now();
  /** Bytes, of a message that is not complete or of the call under way, that are counted against the user. */
  #held = 0;
  /** The peer will send nothing more; what it sent before is served. */
  #inputEnded = false;
  /** Nothing more is served but the call whose handler runs. */
  #finishing = false;
  /** The socket is given up. */
  #closed = false;

  /** Takes over `socket` and what belongs to the peer, and begins to read. */
  constructor(socket: OwnedFd, peer: Peer, serving: Serving) {
    this.peer = peer;
    this.#socket = socket;
    this.#serving = serving;
    this.#replies = new Replies({
      socket: socket.number,
      generation: serving.generation,
      close: (fds) => {
        serving.closing.close(fds, peer);
      },
      discard: serving.discard,
      outdated: policyChangedReply,
    });
    this.#read();
  }

  /** Since when it has asked nothing that is under way, as performance.now(); undefined while a call is. */
  get quietSince(): number | undefined {
    return this.#call?.begun === true ? undefined : this.#endedAt;
  }

  /** Takes no further call, and ends once the one whose handler runs is answered. */
  finish(): void {
    this.#finishing = true;
    const call = this.#call;
    if (call !== undefined && !call.begun && this.#serving.turns.leave(this.peer, call.begin)) {
      this.#release(call);
      this.#call = undefined;
    }
    if (!this.#replies.empty) this.#dueAt = Math.min(this.#dueAt ?? Infinity, this.#replyDueAt());
    this.#continue();
  }

  /** Ends the connection now. The reply of a call whose handler runs goes nowhere. */
  drop(reason: string): void {
    if (this.#closed) return;
    this.#serving.log.debug({ pid: this.peer.pid, user: this.peer.caller.uid, reason }, 'connection ended');
    this.#close();
  }

  /** Ends the connection where a message or a reply has been under way for too long; `now` as performance.now(). */
  checkDue(now: number): void {
    if (this.#dueAt === undefined || now < this.#dueAt) return;
    this.drop(this.#replies.empty ? 'a message was not completed in time' : 'a reply was not read in time');
  }

  #read(): void {
    this.#reading ??= watchReadable(this.#socket.number, () => {
      this.#receive();
    });
  }

  #pause(): void {
    this.#reading?.stop();
    this.#reading = undefined;
  }

  #receive(): void {
    // A client that asks and waits for the answer never comes here in between: the watch is left alone for it.
    if (this.#closed || this.#call !== undefined || !this.#replies.empty) {
      this.#pause();
      return;
    }
    try {
      // Looked at before descriptors are taken in, which would have to wait there as well.
      if (this.#serving.closing.backlog(this.peer.user) > limits.descriptorsInFlightPerUser) {
        throw new ProtocolError('the descriptors that were sent before cannot be closed');
      }
      const message = receiveThrough(this.#socket.number, received, 0);
      if (message.kind === 'again') return;
      if (message.kind === 'truncated') {
        this.#serving.closing.close(message.fds, this.peer);
        throw new ProtocolError('descriptors were lost on the way');
      }
      if (message.kind === 'end') this.#inputEnded = true;
      else this.#accept(message.bytes, message.fds);
    } catch (error) {
      this.#fault(error);
      return;
    }
    this.#continue();
  }

  #accept(bytes: number, fds: readonly number[]): void {
    if (fds.length > 0) {
      const met = this.#serving.descriptors.take(this.peer, fds.length);
      if (met !== undefined) {
        this.#serving.closing.close(fds, this.peer);
        throw new ProtocolError(`more than ${met.value} descriptors are under way (${met.limit})`);
      }
    }
    // From here on they belong to the frames, whatever push says of the bytes.
    this.#frames.push(received.subarray(0, bytes), fds);
  }

  /** Takes up the next call where there is none; ends the connection where none can come. */
  #continue(): void {
    if (this.#closed || this.#call !== undefined || !this.#replies.empty) return;
    if (this.#finishing) {
      this.#close();
      return;
    }
    let next: { frame: Uint8Array; fds: readonly number[] } | undefined;
    try {
      next = this.#frames.next();
    } catch (error) {
      this.#fault(error);
      return;
    }
    if (next !== undefined) this.#enter(next.frame, next.fds);
    else if (this.#inputEnded) this.#close();
    else this.#await();
  }

  #await(): void {
    const { pendingBytes } = this.#frames;
    if (!this.#hold(pendingBytes)) return;
    if (pendingBytes === 0) this.#dueAt = undefined;
    else this.#dueAt ??= performance.now() + limits.messageMilliseconds;
    this.#read();
  }

  /** Counts `bytes` held of a message, in place of those counted before; false where the connection ends for it. */
  #hold(bytes: number): boolean {
    if (bytes === this.#held) return true;
    const { buffered } = this.#serving;
    buffered.give(this.peer, this.#held);
    this.#held = 0;
    const met = buffered.take(this.peer, bytes);
    if (met === undefined) {
      this.#held = bytes;
      return true;
    }
    this.drop(`more than ${met.value} bytes of messages wait (${met.limit})`);
    return false;
  }

  #enter(frame: Uint8Array, fds: readonly number[]): void {
    this.#dueAt = undefined;
    const call: UnderWay = {
      frame,
      context: { peer: this.peer, fds, decidedBy: undefined, ownStorage: false },
      begin: () => {
        this.#begin(call);
      },
      begun: false,
    };
    if (!this.#hold(frame.length)) {
      this.#release(call);
      return;
    }
    this.#call = call;
    this.#serving.turns.enter(this.peer, call.begin);
  }

  #begin(call: UnderWay): void {
    call.begun = true;
    if (this.#closed) {
      this.#end(call);
      return;
    }
    let handled: Promise<void> | undefined;
    try {
      handled = this.#serving.server.handle(parseCall(call.frame), call.context, (reply, fds) => {
        this.#replies.push(formatReply(reply), fds, call.context);
      });
    } catch (error) {
      this.#fault(error);
      this.#end(call);
      return;
    }
    if (handled === undefined) {
      this.#end(call);
      return;
    }
    handled.then(
      () => {
        this.#end(call);
      },
      (error: unknown) => {
        this.#fault(error);
        this.#end(call);
      },
    );
  }

  /** The handler has ended. */
  #end(call: UnderWay): void {
    this.#serving.turns.end(this.peer);
    this.#release(call);
    this.#call = undefined;
    this.#endedAt = performance.now();
    if (this.#closed) {
      this.#replies.abandon();
      this.#serving.ended(this);
      return;
    }
    this.#flush();
    // Calls that were sent ahead come one a turn of the event loop, so that others' come in between.
    if (this.#frames.pendingBytes === 0) this.#continue();
    else
      setImmediate(() => {
        this.#continue();
      });
  }

  #release(call: UnderWay): void {
    if (call.context.fds.length === 0) return;
    this.#giveUp(call.context.fds);
  }

  /** They count as under way until they are closed: a peer whose descriptors hang as they are closed sends no more. */
  #giveUp(fds: readonly number[]): void {
    this.#serving.closing.close(fds, this.peer, () => {
      this.#serving.descriptors.give(this.peer, fds.length);
    });
  }

  #flush(): void {
    if (this.#closed) return;
    try {
      if (this.#replies.flush()) {
        this.#writing?.stop();
        this.#writing = undefined;
        this.#dueAt = undefined;
        return;
      }
    } catch (error) {
      this.#fault(error);
      return;
    }
    this.#dueAt ??= this.#replyDueAt();
    this.#writing ??= watchWritable(this.#socket.number, () => {
      this.#flush();
      this.#continue();
    });
  }

  /** When a reply that waits from now on has to be read. */
  #replyDueAt(): number {
    return performance.now() + (this.#finishing ? limits.lastReplyMilliseconds : limits.replyMilliseconds);
  }

  #fault(error: unknown): void {
    if (error instanceof ProtocolError) this.drop(error.reason);
    else if (isSyscallError(error)) this.drop(error.message);
    else {
      this.#serving.log.error({ err: error }, 'bug in a connection');
      this.drop('a bug');
    }
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pause();
    this.#writing?.stop();
    this.#replies.abandon();
    this.#hold(0);
    const undelivered = this.#frames.abandon();
    if (undelivered.length > 0) this.#giveUp(undelivered);
    giveUpSocket(this.#socket, this.peer, this.#serving.closing);
    if (this.#call?.begun === false && this.#serving.turns.leave(this.peer, this.#call.begin)) {
      this.#release(this.#call);
      this.#call = undefined;
    }
    if (this.#call === undefined) this.#serving.ended(this);
  }
}
