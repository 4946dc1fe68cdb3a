import { expect, test } from 'vitest';

import { attributeBits, attributeChange } from '../../../src/mount/attributes.ts';
import { attributes } from '../../../src/policy/policy.ts';

test('bits are those of linux/mount.h', () => {
  expect(attributes.map((attribute) => [attribute, attributeBits([attribute])])).toEqual([
    ['ro', 0x1],
    ['nosuid', 0x2],
    ['nodev', 0x4],
    ['noexec', 0x8],
    ['noatime', 0x10],
    ['nosymfollow', 0x20_0000],
  ]);
  expect(attributeBits(attributes)).toBe(0x20_001f);
  expect(attributeBits(['ro', 'ro'])).toBe(1);
  expect(attributeBits([])).toBe(0);
});

test('noatime takes the place of what a mount has for access times; without it they stay as they are', () => {
  expect(attributeChange(attributeBits(['ro', 'noatime']))).toEqual({ set: 0x11, clear: 0x70 });
  expect(attributeChange(attributeBits(['ro', 'nodev']))).toEqual({ set: 0x5, clear: 0 });
});
