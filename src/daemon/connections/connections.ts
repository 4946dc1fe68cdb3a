import type { OwnedFd } from '../../sys/fd.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { sendMessage } from '../../sys/socket.ts';
import { Connection, type Serving } from './connection.ts';
import { giveUpSocket } from './give-up-socket.ts';
import { limits } from '../callers/limits.ts';
import { nobodyKnown } from '../callers/owner.ts';
import { identify, PeerUnknown, releasePeer, type Peer } from '../callers/peer.ts';
import { Rate } from '../callers/rate.ts';
import { limitReply } from '../calls/refusal.ts';
import { Shares, type LimitMet } from '../callers/shares.ts';
import { Subordinates } from '../callers/subordinates.ts';

const checkMilliseconds = 1000;

/** Every connection, each user's share of them, and their deadlines. */
export class Connections {
  readonly #serving: Serving;
  readonly #all = new Set<Connection>();
  readonly #shares = new Shares('connectionsPerUser', 'connections');
  readonly #refusals = new Rate(1000);
  readonly #subordinates = new Subordinates();
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
      peer = identify(socket, this.#subordinates);
    } catch (error) {
      if (!(error instanceof PeerUnknown) && !isSyscallError(error)) throw error;
      this.#log({ reason: error.message });
      giveUpSocket(socket, nobodyKnown, this.#serving.closing);
      return;
    }
    const met = this.#take(peer) && this.#takeInstead(peer);
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
  #take(peer: Peer): LimitMet | undefined {
    const value = limits.descriptorsInFlightPerUser;
    if (this.#serving.closing.backlog(peer.user) > value)
      return { limit: 'descriptorsInFlightPerUser', value };
    return this.#shares.take(peer, 1);
  }

  /**
   * Where there is no room, whoever has no connection yet gets the place of one that is not being answered: of the group
   * with the most of them, the one that was quiet for longest.
   */
  #takeInstead(peer: Peer): LimitMet | undefined {
    if (this.#shares.heldByGroup(peer) === 0) this.#quietest()?.drop('another user has no connection yet');
    return this.#take(peer);
  }

  #quietest(): Connection | undefined {
    let found: { readonly connection: Connection; readonly held: number; readonly since: number } | undefined;
    for (const connection of this.#all) {
      const { peer, quietSince: since } = connection;
      if (since === undefined || peer.root) continue;
      const held = this.#shares.heldByGroup(peer);
      if (found !== undefined && (held < found.held || (held === found.held && since >= found.since)))
        continue;
      found = { connection, held, since };
    }
    return found?.connection;
  }

  #check(): void {
    const now = performance.now();
    for (const connection of this.#all) connection.checkDue(now);
  }

  #remove(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    this.#shares.give(connection.peer, 1);
    releasePeer(connection.peer);
    if (this.#all.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#whenNone?.();
  }

  // The peer learns why from a reply to whatever it asks first, as far as its socket takes it.
  #refuse(socket: OwnedFd, peer: Peer, met: LimitMet): void {
    this.#log({ pid: peer.pid, user: peer.caller.uid, limit: met.limit });
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
