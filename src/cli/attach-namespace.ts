import { enterMountNamespace } from '../sys/enter-mount-namespace.ts';
import { isSyscallError } from '../sys/errno.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openFile } from '../sys/file.ts';
import { fsopen } from '../sys/mount-calls.ts';
import { owningUserNamespace, sameNamespace } from '../sys/user-namespace.ts';

/**
 * Whether this thread may attach mounts in its mount namespace: has CAP_SYS_ADMIN in the user namespace that it
 * belongs to. fsopen(2) asks the kernel for just that, and a context that is closed again leaves nothing behind.
 */
export function mayAttach(): boolean {
  try {
    fsopen('tmpfs').close();
    return true;
  } catch (error) {
    return !isSyscallError(error, 'EPERM');
  }
}

/** A mount namespace that is not this thread's own. */
export interface NamespaceToEnter extends Disposable {
  /** The user namespace that it belongs to, where that is another than this process's. */
  readonly userNamespace: OwnedFd | undefined;
  /** Moves this thread there. Throws SyscallError. */
  enter(): void;
}

/** The mount namespace of a process, by its PID, or of a file such as /proc/PID/ns/mnt. Throws SyscallError. */
export function namespaceToEnter(namespace: string): NamespaceToEnter {
  const mounts = openFile(/^\d+$/.test(namespace) ? `/proc/${namespace}/ns/mnt` : namespace);
  try {
    const userNamespace = foreignUserNamespace(mounts.number);
    return {
      userNamespace,
      enter: () => {
        enterMountNamespace(mounts.number);
      },
      [Symbol.dispose]: () => {
        mounts.close();
        userNamespace?.close();
      },
    };
  } catch (error) {
    mounts.close();
    throw error;
  }
}

function foreignUserNamespace(mounts: number): OwnedFd | undefined {
  using own = openFile('/proc/self/ns/user');
  using owner = owningUserNamespace(mounts);
  return sameNamespace(own.number, owner.number) ? undefined : owner.moved();
}
