import type { Attribute } from '../policy/policy.ts';

// MOUNT_ATTR_* of linux/mount.h.
const bits: Readonly<Record<Attribute, number>> = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  noatime: 0x10,
  nosymfollow: 0x20_0000,
};

const MOUNT_ATTR__ATIME = 0x70;

/** MOUNT_ATTR_* bits of `attributes`, as fsmount(2) and mount_setattr(2) take them. */
export function attributeBits(attributes: readonly Attribute[]): number {
  return attributes.reduce((sum, attribute) => sum | bits[attribute], 0);
}

/** What mount_setattr(2) is to change for a mount to get `bits`: an access time is set only where all of them are cleared. */
export function attributeChange(bits: number): { readonly set: number; readonly clear: number } {
  return { set: bits, clear: (bits & MOUNT_ATTR__ATIME) === 0 ? 0 : MOUNT_ATTR__ATIME };
}
