import { readFileSync, realpathSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openBeneath, openFile } from '../sys/file.ts';

/** A line of /proc/self/mountinfo (proc_pid_mountinfo(5)), as far as it is needed. */
export interface MountEntry {
  readonly id: number;
  /** The part of the filesystem that is the mount's root; `/` for all of it. */
  readonly root: string;
  readonly mountPoint: string;
  readonly fileSystem: string;
  readonly source: string;
}

/** The mounts that the text of a mountinfo file lists. Lines that cannot be understood are left out. */
export function parseMountinfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [id, , , root, mountPoint] = fields;
    const [fileSystem, source] = separator < 0 ? [] : fields.slice(separator + 1);
    if (root === undefined || mountPoint === undefined || fileSystem === undefined || source === undefined)
      return [];
    return [
      {
        id: Number(id),
        root: unescape(root),
        mountPoint: unescape(mountPoint),
        fileSystem: unescape(fileSystem),
        source: unescape(source),
      },
    ];
  });
}

/** Blanks, tabs, newlines and backslashes are written as three octal digits. */
function unescape(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/**
 * The mount whose mount point `directory` is, the topmost where there are several; undefined where nothing is mounted
 * just there, or where this process cannot see the mount in its mountinfo. `proc` is /proc/self, open from before this
 * thread went to another mount namespace: the /proc there may be that of other processes. Throws SyscallError where
 * `directory` cannot be reached.
 */
export function findMountAt(directory: string, proc?: OwnedFd): MountEntry | undefined {
  if (proc === undefined) {
    using own = openOwnProcess();
    return findMountAt(directory, own);
  }
  using folder = openFile(directory, { pathOnly: true });
  const id = /^mnt_id:\s*(\d+)$/m.exec(readText(proc.number, `fdinfo/${folder.number}`))?.[1];
  if (id === undefined) return undefined;
  const found = parseMountinfo(readText(proc.number, 'mountinfo')).find((mount) => mount.id === Number(id));
  return found?.mountPoint === realpathSync(directory) ? found : undefined;
}

/** /proc/self as a place, for findMountAt. */
export function openOwnProcess(): OwnedFd {
  return openFile('/proc/self', { pathOnly: true, directory: true });
}

function readText(folder: number, name: string): string {
  using file = openBeneath(folder, name);
  return readFileSync(file.number, 'utf8');
}

/** The digest of the image that this is the mount of, whole; undefined for the mounts of others. */
export function imageOfMount(mount: MountEntry): Digest | undefined {
  if (mount.root !== '/' || (mount.fileSystem !== 'erofs' && mount.fileSystem !== 'overlay'))
    return undefined;
  return parseDigest(mount.source);
}
