import { realpathSync } from 'node:fs';
import type { Command } from 'commander';
import { isSyscallError } from '../../sys/errno.ts';
import { umount } from '../../sys/mount-calls.ts';
import { CommandError } from '../command-error.ts';
import { fileErrorReason, withPath } from '../input-file.ts';
import { findMountAt, imageOfMount } from '../mount-table.ts';

/** Adds `umount`. */
export function addUmountCommand(program: Command): void {
  program
    .command('umount')
    .summary('unmount an image')
    .description(
      'Unmounts the image that is mounted at DIR. Other mounts are left alone: umount(8) unmounts those.',
    )
    .argument('<DIR>', 'where the image is mounted')
    .action(umountImage);
}

function umountImage(directory: string): void {
  withPath(directory, () => {
    const mount = findMountAt(directory);
    if (mount === undefined) throw new CommandError(`${directory}: nothing is mounted there`);
    if (imageOfMount(mount) === undefined) {
      throw new CommandError(
        `${directory}: not a mount of an image (${mount.fileSystem} of ${mount.source}); umount(8) unmounts others`,
      );
    }
    unmount(realpathSync(directory), directory);
  });
}

function unmount(path: string, shown: string): void {
  try {
    umount(path);
  } catch (error) {
    if (isSyscallError(error, 'EPERM')) {
      throw new CommandError(
        `${shown}: only root of the namespace in which it is mounted can unmount it; try podman unshare`,
      );
    }
    if (isSyscallError(error, 'EBUSY')) throw new CommandError(`${shown}: it is in use`);
    throw new CommandError(`${shown}: ${fileErrorReason(error) ?? 'it cannot be unmounted'}`);
  }
}
