/** The filesystems that an image can hold, by the names of the interface, the policy and the signatures. */
export const fileSystems = ['composefs', 'erofs', 'squashfs', 'ext4', 'xfs', 'btrfs', 'ddi'] as const;

/** One of the names above. `ddi` is a disk image with a partition table (Discoverable Disk Image). */
export type FileSystem = (typeof fileSystems)[number];

/** The filesystem of that name, or undefined. */
export function parseFileSystem(name: string): FileSystem | undefined {
  return fileSystems.find((known) => known === name);
}
