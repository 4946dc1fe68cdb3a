import type { CallerIdentity } from '../../policy/question.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { peerCredentials, peerPidfd } from '../../sys/peer.ts';
import { containerOf, processNamespaces, userNamespaceOf } from '../../sys/user-namespace.ts';
import { containerRoot, type Owner } from './owner.ts';
import type { Subordinates } from './subordinates.ts';

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

/** The containers that it is in, each by the inode of a namespace; undefined where it is in none. */
export interface Containers {
  /** The outermost user namespace below the initial one. */
  readonly outermost: bigint | undefined;
  /** The outermost PID namespace below the daemon's that belongs to the initial user namespace, so that root made it. */
  readonly container: bigint | undefined;
}

/** The process at the other end of a connection, as it was when it connected. */
export interface Peer extends Owner {
  readonly pid: number;
  /** The user ID that the kernel reports. */
  readonly uid: number;
  /** Whose share of the limits it takes (owner.ts): `caller.uid`, but for user 0 of a container. */
  readonly user: number;
  readonly group: string;
  readonly root: boolean;
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

/**
 * Whose share of the limits a caller takes. Root of a container that root has made has many user IDs at hand, in a user namespace
 * or without one, and so has a user to whom /etc/subuid gives some: a file that is set-user-ID to one of those runs as
 * that user outside of every namespace. What they all take is one group's. A PID namespace tells of a container only
 * where root made it: a user, who could make many, makes them within user namespaces.
 */
export function ownerOf(
  view: KernelView,
  { outermost, container }: Containers,
  subordinates: Subordinates,
): Required<Owner> {
  const { uid, root } = callerOf(view);
  const user = uid === 0 && !root ? containerRoot : uid;
  if (container !== undefined) return { user, group: `container ${container}`, root };
  if (!view.initial && (view.creatorUid ?? 0) === 0)
    return { user, group: `container ${outermost ?? ''}`, root };
  return { user, group: `user ${subordinates.ownerOf(user) ?? user}`, root };
}

/** The peer cannot be told: it is gone already, or in a PID namespace that the daemon does not see. */
export class PeerUnknown extends Error {
  override readonly name = 'PeerUnknown';
}

/**
 * Who is at the other end of `socket`: the credentials are those of the moment of connecting, the namespaces and the
 * capabilities those of now, all of one process. Throws PeerUnknown; SyscallError for what is no Unix socket.
 */
export function identify(socket: OwnedFd, subordinates: Subordinates): Peer {
  const { pid, uid, gid, gids } = peerCredentials(socket.number);
  if (pid <= 0)
    throw new PeerUnknown('the peer is in a PID namespace that is not below the one of the service');
  try {
    using pidfd = peerPidfd(socket.number);
    const namespaces = processNamespaces(pidfd.number, pid);
    using userNamespace = userNamespaceOf(pidfd.number, pid);
    const view = { uid, gids: [...new Set([gid, ...gids])], ...namespaces };
    const container = containerOf(pidfd.number, pid);
    return {
      pid,
      uid,
      ...ownerOf(view, { outermost: namespaces.outermost, container }, subordinates),
      caller: callerOf(view),
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
