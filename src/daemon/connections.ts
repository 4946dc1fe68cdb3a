import type { OwnedFd } from '../sys/fd.ts';
import { isSyscallError } from '../sys/errno.ts';
import { sendMessage } from '../sys/socket.ts';
import { Connection, type Serving } from './connection.ts';
import { giveUpSocket } from './give-up-socket.ts';
import { limits } from './limits.ts';
import { identify, PeerUnknown, releasePeer, type Peer } from './peer.ts';
import { Rate } from './rate.ts';
import { limitReply } from './refusal.ts';
import { Shares, type LimitMet } from './shares.ts';

const checkMilliseconds = 1000;

/** Every connection, each user's share of them, and their deadlines. */
export class Connections {
  readonly #serving: Serving;
  readonly #all = new Set<Connection>();
  readonly #shares = new Shares('connectionsPerUser', 'connections');
  readonly #refusals = new Rate(1000);
  #timer: NodeJS.Timeout | undefined;
  #whenNone: (() => void) | undefined;

  constructor(serving: Omit<Serving, 'ended'>) {
    this.#serving = {
      ...serving,
      ended: (connection) => {
        this.#remove(connection);
      },
    };
  }

  /** How many there are. */
  get count(): number {
    return this.#all.size;
  }

  /** Takes over a new connection: finds out whose it is, and serves or refuses it. */
  accept(socket: OwnedFd): void {
    let peer: Peer;
    try {
      peer = identify(socket);
    } catch (error) {
      if (!(error instanceof PeerUnknown) && !isSyscallError(error)) throw error;
      this.#log({ reason: error.message });
      giveUpSocket(socket, { user: nobodyKnown }, this.#serving.closing);
      return;
    }
    const met = this.#take(peer.user);
    if (met !== undefined) {
      this.#refuse(socket, peer, met);
      return;
    }
    this.#all.add(new Connection(socket, peer, this.#serving));
    this.#timer ??= setInterval(() => {
      this.#check();
    }, checkMilliseconds).unref();
  }

  /** Takes no further call on any of them; resolves once those under way are answered and every connection is gone. */
  finish(): Promise<void> {
    for (const connection of [...this.#all]) connection.finish();
    if (this.#all.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenNone = resolve;
    });
  }

  // Sockets that a closer is stuck with are the user's still.
  #take(user: number): LimitMet | undefined {
    const value = limits.descriptorsInFlightPerUser;
    if (this.#serving.closing.backlog(user) > value) return { limit: 'descriptorsInFlightPerUser', value };
    return this.#shares.take(user, 1);
  }

  #check(): void {
    const now = performance.now();
    for (const connection of this.#all) connection.checkDue(now);
  }

  #remove(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    this.#shares.give(connection.peer.user, 1);
    releasePeer(connection.peer);
    if (this.#all.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#whenNone?.();
  }

  // The peer learns why from a reply to whatever it asks first, as far as its socket takes it.
  #refuse(socket: OwnedFd, peer: Peer, met: LimitMet): void {
    this.#log({ pid: peer.pid, user: peer.user, limit: met.limit });
    try {
      sendMessage(socket.number, limitReply(met), []);
    } catch (error) {
      if (!isSyscallError(error)) throw error;
    }
    giveUpSocket(socket, peer, this.#serving.closing);
    releasePeer(peer);
  }

  #log(fields: Record<string, unknown>): void {
    const suppressed = this.#refusals.pass(performance.now());
    if (suppressed !== undefined) this.#serving.log.warn({ ...fields, suppressed }, 'connection refused');
  }
}

/** The lane of closers for peers of whom nothing is known: no user has this ID (it is (uid_t) -1). */
const nobodyKnown = 0xffff_ffff;
