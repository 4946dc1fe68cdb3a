import type { Peer } from '../callers/peer.ts';

/** What goes with one call from the socket to its reply. */
export interface CallContext {
  readonly peer: Peer;
  /** The descriptors that came with the call. They are the connection's, which closes them after the handler's end. */
  readonly fds: readonly number[];
  /**
   * The policy that the reply rests on, by its number; undefined where it rests on none. A reply is not sent once
   * another policy is in force.
   */
  decidedBy: number | undefined;
  /** No storage of a client's is behind the descriptors of the reply, so that closing them cannot hang. */
  ownStorage: boolean;
}
