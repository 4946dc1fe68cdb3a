import { idMapRemedy, KernelUnsupportedError } from '../mount/plan.ts';
import { isSyscallError } from './errno.ts';
import { makeNamespaces } from './idle-child.ts';
import { mountSetattr } from './mount-calls.ts';

/**
 * Lets the detached mount `mount` show the IDs of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). The kernel says
 * EINVAL both for a filesystem that it cannot map and for a user namespace without IDs, so that the mount is tried with
 * one that has some. Throws KernelUnsupportedError for the former, SyscallError for the latter and all else.
 */
export function mapIds(mount: number, userNamespaceFd: number): void {
  try {
    mountSetattr(mount, { userNamespaceFd });
  } catch (error) {
    if (isSyscallError(error, 'EINVAL') && !canBeMapped(mount))
      throw new KernelUnsupportedError('ID-mapped mounts of this filesystem', idMapRemedy);
    throw error;
  }
}

/** Whether the mount can be mapped at all; it is mapped afterwards. */
function canBeMapped(mount: number): boolean {
  const { user, mount: namespace } = makeNamespaces();
  namespace.close();
  try {
    mountSetattr(mount, { userNamespaceFd: user.number });
    return true;
  } catch (error) {
    if (isSyscallError(error, 'EINVAL')) return false;
    throw error;
  } finally {
    user.close();
  }
}
