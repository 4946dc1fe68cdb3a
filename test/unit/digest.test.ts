import { expect, test } from 'vitest';
import { digestBytes, digestFromBytes, digestHex, parseDigest } from '../../src/base/digest.ts';

const hex = 'ab'.repeat(32);

test('a digest is written sha256: and 64 lower-case digits, and nothing else parses', () => {
  expect(parseDigest(`sha256:${hex}`)).toBe(`sha256:${hex}`);
  for (const text of [
    hex,
    `sha256:${hex}0`,
    `sha256:${hex.toUpperCase()}`,
    `sha512:${hex}`,
    `sha256:${hex}\n`,
    '',
  ]) {
    expect(parseDigest(text), text).toBeUndefined();
  }
});

test('bytes and text of a digest are each other’s inverse', () => {
  const digest = digestFromBytes(new Uint8Array(32).fill(0xab));
  expect(digestHex(digest)).toBe(hex);
  expect(digestFromBytes(digestBytes(digest))).toBe(digest);
  expect(() => digestFromBytes(new Uint8Array(31))).toThrow(RangeError);
});
