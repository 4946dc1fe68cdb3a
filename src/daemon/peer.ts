import type { CallerIdentity } from '../policy/question.ts';
import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { peerCredentials, peerPidfd } from '../sys/peer.ts';
import { processNamespaces, userNamespaceOf } from '../sys/user-namespace.ts';

/** What the kernel says of the process at the other end, in the IDs of the daemon's user namespace. */
export interface KernelView {
  readonly uid: number;
  readonly gids: readonly number[];
  /** Whether its user namespace is the initial one, which is the daemon's. */
  readonly initial: boolean;
  /** Who created the outermost of the user namespaces it is in, below the initial one; undefined where it is in none. */
  readonly creatorUid: number | undefined;
  /** Whether it holds CAP_SYS_ADMIN in the initial user namespace. */
  readonly sysAdmin: boolean;
}

/** The process at the other end of a connection, as it was when it connected. */
export interface Peer {
  readonly pid: number;
  /** The user ID that the kernel reports. */
  readonly uid: number;
  /** The user who counts as the caller, for rules and for limits. */
  readonly user: number;
  readonly caller: CallerIdentity;
  /** Whether it is in the initial user namespace, so that there is nothing to map. */
  readonly initialNamespace: boolean;
  /** The process, and its user namespace; the connection owns both. */
  readonly pidfd: OwnedFd;
  readonly userNamespace: OwnedFd;
}

/**
 * Who counts as the caller. A process inside user namespaces counts as the user who created the outermost of
 * them, unless that was root: then as the user ID that the kernel reports. "root" is user 0 of the initial user
 * namespace holding CAP_SYS_ADMIN there; the root of a container is not, with a user namespace or without.
 */
export function callerOf(view: KernelView): CallerIdentity {
  const creator = view.initial ? undefined : view.creatorUid;
  return {
    uid: creator === undefined || creator === 0 ? view.uid : creator,
    root: view.initial && view.uid === 0 && view.sysAdmin,
    gids: view.gids,
  };
}

/** The peer cannot be told: it is gone already, or in a PID namespace that the daemon does not see. */
export class PeerUnknown extends Error {
  override readonly name = 'PeerUnknown';
}

/**
 * Who is at the other end of `socket`: the credentials are those of the moment of connecting, the namespaces and the
 * capabilities those of now, all of one process. Throws PeerUnknown; SyscallError for what is no Unix socket.
 */
export function identify(socket: OwnedFd): Peer {
  const { pid, uid, gid, gids } = peerCredentials(socket.number);
  if (pid <= 0)
    throw new PeerUnknown('the peer is in a PID namespace that is not below the one of the service');
  try {
    using pidfd = peerPidfd(socket.number);
    const namespaces = processNamespaces(pidfd.number, pid);
    using userNamespace = userNamespaceOf(pidfd.number, pid);
    const caller = callerOf({ uid, gids: [...new Set([gid, ...gids])], ...namespaces });
    return {
      pid,
      uid,
      user: caller.uid,
      caller,
      initialNamespace: namespaces.initial,
      pidfd: pidfd.moved(),
      userNamespace: userNamespace.moved(),
    };
  } catch (error) {
    if (isSyscallError(error, 'ESRCH', 'ENODATA', 'EINVAL'))
      throw new PeerUnknown('the peer is gone', { cause: error });
    throw error;
  }
}

/** Closes what belongs to the peer. */
export function releasePeer(peer: Peer): void {
  peer.pidfd.close();
  peer.userNamespace.close();
}
