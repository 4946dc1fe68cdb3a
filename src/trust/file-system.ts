/** The filesystems that an image can hold, by the names of the interface, the policy and the signatures. */
export const fileSystems = ['composefs', 'erofs', 'squashfs', 'ext4', 'xfs', 'btrfs', 'ddi'] as const;

/** One of the names above. `ddi` is a disk image with a partition table (Discoverable Disk Image). */
export type FileSystem = (typeof fileSystems)[number];

/** The filesystem of that name, or undefined. */
export function parseFileSystem(name: string): FileSystem | undefined {
  return fileSystems.find((known) => known === name);
}

/** Filesystems whose every inode our own reader looks at before the kernel does. */
const scanned = ['composefs', 'erofs'] as const;

/** Filesystems of which nothing but the superblock is read here. */
export type UnscannedFileSystem = Exclude<FileSystem, (typeof scanned)[number] | 'ddi'>;

/** Whether the filesystem is one of which nothing but the superblock is read here. */
export function isUnscanned(fileSystem: FileSystem): fileSystem is UnscannedFileSystem {
  return fileSystem !== 'ddi' && !isScanned(fileSystem);
}

/** Whether our own reader finds the device nodes in images of that filesystem. */
export function isScanned(fileSystem: FileSystem): fileSystem is (typeof scanned)[number] {
  return scanned.some((known) => known === fileSystem);
}
