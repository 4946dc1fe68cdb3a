/**
 * The filesystems that the kernel mounts from a block device alone, which for an image is a loop device. EROFS is none of
 * them: it mounts files as well.
 */
export const deviceFileSystems = ['squashfs', 'ext4', 'xfs', 'btrfs'] as const;

/** One of the names above. */
export type DeviceFileSystem = (typeof deviceFileSystems)[number];

/** An option of a filesystem, as fsconfig(2) takes it; without a value it is a flag. */
export interface MountOption {
  readonly key: string;
  readonly value?: string;
}

/**
 * What each is told as it is mounted, besides `ro`: no journal is replayed, no byte of the image is changed, and nothing
 * in the image decides what becomes of the machine. No option comes from a client.
 */
export const mountOptions: Readonly<Record<DeviceFileSystem, readonly MountOption[]>> = {
  squashfs: [],
  // A superblock can ask for a panic on errors (tune2fs -e); what is mounted beats it (ext4(5)).
  ext4: [{ key: 'noload' }, { key: 'errors', value: 'continue' }],
  // Copies of one image have one UUID, and xfs mounts no UUID twice unless it is told so (xfs(5)).
  xfs: [{ key: 'norecovery' }, { key: 'nouuid' }],
  // Since 5.9; btrfs(5). Of two images with one UUID each gets a superblock since 6.7, before that the second gets EEXIST.
  btrfs: [{ key: 'rescue', value: 'nologreplay' }],
};

/** Whether `fileSystem` is one of those that are mounted from a block device alone. */
export function isDeviceFileSystem(fileSystem: string): fileSystem is DeviceFileSystem {
  return deviceFileSystems.some((known) => known === fileSystem);
}
