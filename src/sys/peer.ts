import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';

const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SO_PEERGROUPS = 59;
const SO_PEERPIDFD = 77;

/** Who was at the other end of a Unix socket when it connected or listened, in the IDs of this user namespace. */
export interface PeerCredentials {
  /** 0 where the peer is in a PID namespace that this process cannot see. */
  pid: number;
  uid: number;
  /** The primary group. */
  gid: number;
  /** Supplementary groups. */
  gids: number[];
}

const length = ffi.allocate(4);

function getOption(fd: number, option: number, into: Buffer): number {
  length.writeUInt32LE(into.length, 0);
  if (ffi.getsockopt(fd, SOL_SOCKET, option, into, length) < 0)
    throw new SyscallError('getsockopt', lastErrnoName());
  return length.readUInt32LE(0);
}

const credentials = ffi.allocate(12);
// A process seldom has more groups than this; with more, the kernel says how many.
const groups = ffi.allocate(64 * 4);

/** The peer's credentials: SO_PEERCRED and SO_PEERGROUPS (unix(7)). Throws SyscallError for what is no Unix socket. */
export function peerCredentials(fd: number): PeerCredentials {
  getOption(fd, SO_PEERCRED, credentials);
  return {
    pid: credentials.readInt32LE(0),
    uid: credentials.readUInt32LE(4),
    gid: credentials.readUInt32LE(8),
    gids: peerGroups(fd),
  };
}

function peerGroups(fd: number): number[] {
  let into = groups;
  let bytes: number;
  try {
    bytes = getOption(fd, SO_PEERGROUPS, into);
  } catch (error) {
    // A socket made by socketpair(2) before groups were recorded has none.
    if (isSyscallError(error, 'ENODATA')) return [];
    if (!isSyscallError(error, 'ERANGE')) throw error;
    into = ffi.allocate(length.readUInt32LE(0));
    bytes = getOption(fd, SO_PEERGROUPS, into);
  }
  return Array.from({ length: bytes / 4 }, (_, index) => into.readUInt32LE(index * 4));
}

/**
 * A pidfd of the process that connected. Throws SyscallError, ESRCH where it is gone.
 *
 * COMPAT(6.5): without SO_PEERPIDFD the process is opened by its PID, which another may have got since.
 */
export function peerPidfd(fd: number): OwnedFd {
  const into = ffi.allocate(4);
  try {
    getOption(fd, SO_PEERPIDFD, into);
    return new OwnedFd(into.readInt32LE(0));
  } catch (error) {
    if (!isSyscallError(error, 'ENOPROTOOPT')) throw error;
    return openPidfd(peerCredentials(fd).pid);
  }
}

/** A pidfd of process `pid` (pidfd_open(2)). Throws SyscallError, ESRCH where there is none. */
export function openPidfd(pid: number): OwnedFd {
  return new OwnedFd(check('pidfd_open', ffi.pidfdOpen(434, pid, 0)));
}

/** Whether the process of `pidfd` is there still; a zombie is. */
export function isAlive(pidfd: number): boolean {
  if (ffi.pidfdSendSignal(424, pidfd, 0, null, 0) === 0) return true;
  const code = lastErrnoName();
  if (code === 'ESRCH') return false;
  // It may not be signalled, so it exists.
  if (code === 'EPERM') return true;
  throw new SyscallError('pidfd_send_signal', code);
}

/** Whether `fd` is a listening Unix stream socket, which is what LISTEN_FDS has to hand over (sd_listen_fds(3)). */
export function isListeningUnixStream(fd: number): boolean {
  const value = ffi.allocate(4);
  const option = (number: number): number => {
    getOption(fd, number, value);
    return value.readInt32LE(0);
  };
  try {
    return option(SO_DOMAIN) === 1 && option(SO_TYPE) === 1 && option(SO_ACCEPTCONN) === 1;
  } catch (error) {
    if (isSyscallError(error, 'ENOTSOCK', 'EBADF')) return false;
    throw error;
  }
}
