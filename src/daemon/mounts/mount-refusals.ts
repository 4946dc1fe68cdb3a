import { BadFileDescriptor, KernelUnsupported, ObjectsMissing } from '../../api/mount-delegation.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { MountOrder } from './mount-order.ts';
import type { MissingObjects } from '../threads/tasks.ts';

/** What the kernel's refusals mean where its own words do not say it. */
export function explained(
  error: unknown,
  { idMap, constraints: { fileSystem } }: Pick<MountOrder, 'idMap' | 'constraints'>,
): unknown {
  if (isSyscallError(error, 'ENODEV') && error.syscall === 'fsopen')
    return new KernelUnsupported({ feature: `the filesystem ${fileSystem}` });
  if (fileSystem === 'btrfs' && isSyscallError(error, 'EEXIST')) {
    const feature = 'another btrfs image with the UUID of one that is mounted (Linux 6.7)';
    return new KernelUnsupported({ feature });
  }
  if (isSyscallError(error, 'ENOTBLK')) {
    const feature =
      'EROFS from a file on this filesystem (tmpfs and overlayfs are none that it mounts from); loop devices would work';
    return new KernelUnsupported({ feature });
  }
  // For a user namespace that maps no IDs (mount_setattr(2)).
  if (!isSyscallError(error, 'EINVAL') || error.syscall !== 'mount_setattr') return error;
  const field = idMap.kind === 'userNamespace' ? idMap.field : 'idMap';
  return new BadFileDescriptor({ field, reason: 'the user namespace maps no IDs, or too few' });
}

/** As explained, of a client's directory: one of another mount namespace cannot be cloned from here. */
export function foreignMount(error: unknown, field: string): unknown {
  if (!isSyscallError(error, 'EINVAL')) return error;
  return new BadFileDescriptor({
    field,
    reason: 'its mount belongs to a mount namespace that the service is not in',
  });
}

/** Says which objects are in none of so many stores. */
export function objectsMissing(missing: MissingObjects, stores: number): ObjectsMissing {
  const looked = stores === 1 ? 'looked for in one store' : `looked for in ${stores} stores`;
  const where = stores === 0 ? 'neither the request nor the rule names a store' : looked;
  const reason = missing.unfit === undefined ? where : `${where}; some ${missing.unfit}`;
  return new ObjectsMissing({ count: missing.count, objects: [...missing.objects], reason });
}
