import { check } from './errno.ts';
import * as ffi from './ffi.ts';

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x2_0000;

/**
 * Moves this thread, and no other of the process, into the mount namespace `namespace` (setns(2)): paths mean what they
 * mean there, and the working directory is its root. Libuv's own threads stay behind, so only synchronous calls
 * see it. Throws SyscallError: EPERM without CAP_SYS_ADMIN over that namespace, and CAP_SYS_CHROOT.
 */
export function enterMountNamespace(namespace: number): void {
  // A thread that shares its root and working directory with others cannot move alone.
  check('unshare', ffi.unshare(CLONE_FS));
  check('setns', ffi.setns(namespace, CLONE_NEWNS), 'the mount namespace');
}
