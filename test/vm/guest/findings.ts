/** What `mounts.ts` prints, a line each: what a kernel did with every kind of image. */
export type Finding = KernelFinding | CellFinding | ReceiverFinding | LeftoverFinding;

/** Which kernel it is, and what the service found that it can do. */
export interface KernelFinding {
  readonly finding: 'kernel';
  /** Its release, as uname(2) says it. */
  readonly release: string;
  readonly features: Readonly<Record<string, boolean>>;
}

/** Whence an image can come: installed and asked for by name, a sealed memfd, an open file with fs-verity. */
export const sources = ['installed', 'memfd', 'verity file'] as const;
export const levels = ['require', 'ifPresent', 'never'] as const;

/** Filesystems that are mounted through loop devices alone. */
export const deviceImages = ['squashfs', 'ext4', 'xfs', 'btrfs'] as const;

/** Disk images with hashes of dm-verity: trusted as a whole, or by the root hash that is signed in them. */
export const diskImages = ['ddi', 'signed-ddi'] as const;

/** Compressed EROFS; what needs devices; composefs with every file in the image; composefs with files in a store. */
export const images = ['erofs', ...deviceImages, ...diskImages, 'inline', 'composefs'] as const;

/** The levels at which an image is tried: where no file lies outside of it, all levels are one. */
export function levelsOf(image: (typeof images)[number]): readonly (typeof levels)[number][] {
  return [...deviceImages, ...diskImages].some((each) => each === image) ? ['never'] : levels;
}

/** One mount that was asked for. */
export interface CellFinding {
  readonly finding: 'cell';
  readonly image: (typeof images)[number];
  readonly source: (typeof sources)[number];
  /** How files outside the image are checked. Asked for with a store that requires fs-verity, or else one that is trusted. */
  readonly level: (typeof levels)[number];
  /** `mounted`, with its files as they should be, or the error with its reason. */
  readonly outcome: string;
  /** For a file of a store that was swapped for another behind the mount: whether it opened, or the error. */
  readonly swapped?: string;
}

/** What a receiver that is root of its own user namespace could do with a mount. */
export interface ReceiverFinding {
  readonly finding: 'receiver';
  readonly image: CellFinding['image'];
  /** Attempts to clear an attribute: all of them, and those that failed with EPERM. */
  readonly attempts: number;
  readonly refused: number;
  /** Whether an overlay, such as a container's, can lie over the mount. */
  readonly overlay: boolean;
}

/** What is left after every mount was closed and the service ended well. */
export interface LeftoverFinding {
  readonly finding: 'left';
  /** Files that loop devices show. */
  readonly loopFiles: readonly string[];
}
