/**
 * What the running kernel can do, each found by trying (src/sys/probe.ts), never by its version. False where a trial
 * failed for whatever reason.
 */
export interface Features {
  /** EROFS mounts a regular file without a loop device (6.12). */
  readonly erofsFromFile: boolean;
  /** EROFS mounts a loop device: for what it does not mount from a file. */
  readonly loopDevices: boolean;
  /**
   * An overlay, such as a container's own, can lie over a composefs mount whose image is mounted from a file. Some
   * kernels count such an image as a filesystem that stands on another, and an overlay over an overlay over it is too many.
   */
  readonly overlayOverFileImages: boolean;
  /** The device mapper has dm-verity, for partitions of disk images that come with hashes. */
  readonly verityDevices: boolean;
  /** An EROFS mount can be ID-mapped (5.19). */
  readonly idmappedErofs: boolean;
  /** overlayfs takes layers one by one: `lowerdir+`, `datadir+` (6.7). */
  readonly overlayLowerdirPlus: boolean;
  /** overlayfs takes layers as descriptors (6.13). */
  readonly overlayLayersByFd: boolean;
  /** overlayfs takes detached mounts for layers (6.15). */
  readonly overlayDetachedLayers: boolean;
  /** overlayfs takes data-only layers (6.5). */
  readonly overlayDataOnly: boolean;
  /** overlayfs has the option `verity` (6.6). Enforcing it needs fsVerity besides. */
  readonly overlayVerity: boolean;
  /** fs-verity works on the filesystem of the state folder. */
  readonly fsVerity: boolean;
  /** FSCONFIG_CMD_CREATE_EXCL (6.6). */
  readonly createExclusive: boolean;
  /** Mounts can be locked against their receiver: user and mount namespaces can be made, and propagate (5.12). */
  readonly lockedMounts: boolean;
  /** A locked mount that is attached nowhere can be cloned, and the clone is as locked (6.15). */
  readonly lockedClones: boolean;
}

/** No feature at all: what a probe starts from. */
export const noFeatures: Features = {
  erofsFromFile: false,
  loopDevices: false,
  verityDevices: false,
  overlayOverFileImages: false,
  idmappedErofs: false,
  overlayLowerdirPlus: false,
  overlayLayersByFd: false,
  overlayDetachedLayers: false,
  overlayDataOnly: false,
  overlayVerity: false,
  fsVerity: false,
  createExclusive: false,
  lockedMounts: false,
  lockedClones: false,
};

/** What people are told of a feature. */
export interface FeatureNote {
  /** The release of Linux that brought it; undefined where a kernel of any release may have it or not. */
  readonly since: string | undefined;
  readonly what: string;
}

/** Every feature in the words of a table. The releases are those of the kernel as it is published: others may carry a feature back. */
export const featureNotes: Readonly<Record<keyof Features, FeatureNote>> = {
  erofsFromFile: { since: '6.12', what: 'images are mounted from their files' },
  loopDevices: {
    since: '5.8',
    what: 'images are mounted by loop devices, where not from their files; squashfs, ext4, xfs, btrfs',
  },
  verityDevices: { since: '4.17', what: 'dm-verity checks partitions of disk images that have hashes' },
  overlayOverFileImages: { since: undefined, what: 'an overlay can lie over composefs from a file' },
  idmappedErofs: { since: '5.19', what: 'idMap: mounts that show the IDs of a user namespace' },
  overlayLowerdirPlus: { since: '6.7', what: 'overlay layers one by one' },
  overlayLayersByFd: { since: '6.13', what: 'overlay layers as descriptors' },
  overlayDetachedLayers: {
    since: '6.15',
    what: 'overlay layers as detached mounts; stores that clients bring',
  },
  overlayDataOnly: { since: '6.5', what: 'composefs images whose files are in a store' },
  overlayVerity: { since: '6.6', what: 'overlayfs checks the fs-verity of each file as it is opened' },
  fsVerity: { since: '5.4', what: 'fs-verity on the filesystem of the state folder' },
  createExclusive: { since: '6.6', what: 'no superblock is shared by accident' },
  lockedMounts: { since: '5.12', what: 'receivers cannot clear the attributes of mounts' },
  lockedClones: { since: '6.15', what: 'one superblock for each image: later mounts of it are clones' },
};
