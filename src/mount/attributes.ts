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

/** MOUNT_ATTR_* bits of `attributes`, as fsmount(2) and mount_setattr(2) take them. */
export function attributeBits(attributes: readonly Attribute[]): number {
  return attributes.reduce((sum, attribute) => sum | bits[attribute], 0);
}
