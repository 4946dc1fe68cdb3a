import { readFileSync } from 'node:fs';

import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { fstat, openFile } from './file.ts';
import { isAlive } from './peer.ts';

// ioctl_ns(2) and, for a pidfd, linux/pidfd.h.
const NS_GET_USERNS = 0xb701;
const NS_GET_PARENT = 0xb702;
const NS_GET_OWNER_UID = 0xb704;
const PIDFD_GET_PID_NAMESPACE = 0xff05;
const PIDFD_GET_USER_NAMESPACE = 0xff09;
const CAP_SYS_ADMIN = 21n;
// The kernel nests user namespaces no deeper (user_namespaces(7)).
const depthMax = 33;

/** What decides whom a process counts as: see the policy's comment on callers. */
export interface ProcessNamespaces {
  /** It is in this process's own user namespace, which for the daemon is the initial one. */
  readonly initial: boolean;
  /** It holds CAP_SYS_ADMIN there, not in a namespace of its own. */
  readonly sysAdmin: boolean;
  /**
   * The user, in this process's IDs, who created the outermost of the user namespaces that the process is in below the
   * initial one. Undefined where it is in none, or where its namespace is no descendant of this process's.
   */
  readonly creatorUid: number | undefined;
  /** Which namespace that outermost one is: its inode, which no other has while it lives. */
  readonly outermost: bigint | undefined;
}

/**
 * Whom the process of `pidfd` counts as. `pid` is its PID, which was told together with `pidfd` (SO_PEERCRED), and is
 * believed only as long as the process is alive. Throws SyscallError, ESRCH where it is gone.
 */
export function processNamespaces(pidfd: number, pid: number): ProcessNamespaces {
  using own = openFile('/proc/self/ns/user');
  using theirs = userNamespaceOf(pidfd, pid);
  if (sameNamespace(own.number, theirs.number)) {
    return { initial: true, sysAdmin: hasSysAdmin(pidfd, pid), creatorUid: undefined, outermost: undefined };
  }
  const found = chainBelow(own.number, theirs.number, (fd) => {
    return { creatorUid: ownerOfUserNamespace(fd), outermost: fstat(fd).ino };
  });
  return { initial: false, sysAdmin: false, creatorUid: found?.creatorUid, outermost: found?.outermost };
}

/**
 * The inode of the outermost PID namespace below this process's own that the process of `pidfd` is in, where it belongs to this
 * process's user namespace: only root can have made it. Undefined where it is in none. Throws SyscallError, ESRCH.
 */
export function containerOf(pidfd: number, pid: number): bigint | undefined {
  using own = openFile('/proc/self/ns/pid');
  using theirs = namespaceOf(pidfd, pid, 'pid', PIDFD_GET_PID_NAMESPACE);
  if (sameNamespace(own.number, theirs.number)) return undefined;
  return chainBelow(own.number, theirs.number, (fd) => {
    using maker = owningUserNamespace(fd);
    using ours = openFile('/proc/self/ns/user');
    return sameNamespace(maker.number, ours.number) ? fstat(fd).ino : undefined;
  });
}

/** The user namespace of the process of `pidfd`, whose PID is `pid`. Throws SyscallError, ESRCH where it is gone. */
export function userNamespaceOf(pidfd: number, pid: number): OwnedFd {
  return namespaceOf(pidfd, pid, 'user', PIDFD_GET_USER_NAMESPACE);
}

function namespaceOf(pidfd: number, pid: number, kind: 'user' | 'pid', request: number): OwnedFd {
  const fd = ffi.ioctlNumber(pidfd, request, 0);
  if (fd >= 0) return new OwnedFd(fd);
  const code = lastErrnoName();
  if (code !== 'ENOTTY' && code !== 'EINVAL')
    throw new SyscallError('ioctl', code, `the ${kind} namespace of a pidfd`);
  // COMPAT(6.11): by PID, which is that of the process of the pidfd if that is alive afterwards.
  return ofLiving(pidfd, () => openFile(`/proc/${pid}/ns/${kind}`));
}

/**
 * The user and group ID mappings of the user namespace `namespace`, normalised, as the process of `pidfd`, whose PID is
 * `pid`, shows them. Undefined where that process is gone or no longer in the namespace, and while a mapping is not
 * written; once it is, it never changes (user_namespaces(7)). Throws SyscallError.
 */
export function idMappingsOf(pidfd: number, pid: number, namespace: number): string | undefined {
  try {
    const texts = ofLiving(pidfd, () => ['uid_map', 'gid_map'].map((name) => readProcess(pid, name)));
    // Looked at afterwards: whoever is in it now was so as the mappings were read, since nobody gets back to a parent.
    using now = userNamespaceOf(pidfd, pid);
    if (!sameNamespace(now.number, namespace)) return undefined;
    const mappings = texts.map((text) => text.trim().replace(/[ \t]+/g, ' '));
    return mappings.includes('') ? undefined : mappings.join('\n\n');
  } catch (error) {
    if (isSyscallError(error, 'ESRCH')) return undefined;
    throw error;
  }
}

/** The user namespace that namespace `fd`, of whatever kind, belongs to. EPERM where that is out of sight. */
export function owningUserNamespace(fd: number): OwnedFd {
  return new OwnedFd(check('ioctl', ffi.ioctlNumber(fd, NS_GET_USERNS, 0), 'NS_GET_USERNS'));
}

/** The user who created user namespace `fd`, in this process's IDs. */
export function ownerOfUserNamespace(fd: number): number {
  const uid = ffi.allocate(4);
  check('ioctl', ffi.ioctl(fd, NS_GET_OWNER_UID, uid), 'NS_GET_OWNER_UID');
  return uid.readUInt32LE(0);
}

/** Whether two descriptors refer to one namespace. */
export function sameNamespace(one: number, other: number): boolean {
  const [a, b] = [fstat(one), fstat(other)];
  return a.dev === b.dev && a.ino === b.ino;
}

/** Whether user namespace `descendant` is `ancestor` or was made below it. Throws SyscallError. */
export function isWithinUserNamespace(ancestor: number, descendant: number): boolean {
  return sameNamespace(ancestor, descendant) || chainBelow(ancestor, descendant, () => true) !== undefined;
}

// Goes up from `from` to the namespace whose parent is `ancestor`, and answers `use` of that; undefined where `ancestor` is
// not above.
function chainBelow<Result>(
  ancestor: number,
  from: number,
  use: (outermost: number) => Result,
): Result | undefined {
  let child: OwnedFd | undefined;
  try {
    for (let depth = 0; depth < depthMax; depth++) {
      const parent = parentOf(child?.number ?? from);
      if (parent === undefined) return undefined;
      if (sameNamespace(ancestor, parent.number)) {
        parent.close();
        return use(child?.number ?? from);
      }
      child?.close();
      child = parent;
    }
    return undefined;
  } finally {
    child?.close();
  }
}

// EPERM: the parent is outside of what this process can see.
function parentOf(fd: number): OwnedFd | undefined {
  const parent = ffi.ioctlNumber(fd, NS_GET_PARENT, 0);
  if (parent >= 0) return new OwnedFd(parent);
  const code = lastErrnoName();
  if (code === 'EPERM') return undefined;
  throw new SyscallError('ioctl', code, 'NS_GET_PARENT');
}

function hasSysAdmin(pidfd: number, pid: number): boolean {
  const status = ofLiving(pidfd, () => readProcess(pid, 'status'));
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (capabilities === undefined) return false;
  return ((BigInt(`0x${capabilities}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
}

function readProcess(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    throw new SyscallError('read', 'ESRCH', `/proc/${pid}/${name}`);
  }
}

// What /proc said of a PID is said of the process of `pidfd` if that process is alive afterwards: a PID is not given away
// before its process is reaped.
function ofLiving<Result>(pidfd: number, look: () => Result): Result {
  let seen: Result;
  try {
    seen = look();
  } catch (error) {
    if (isSyscallError(error, 'ENOENT')) throw new SyscallError('openat', 'ESRCH', 'the process is gone');
    throw error;
  }
  if (isAlive(pidfd)) return seen;
  if (seen instanceof OwnedFd) seen.close();
  throw new SyscallError('pidfd_send_signal', 'ESRCH', 'the process is gone');
}
