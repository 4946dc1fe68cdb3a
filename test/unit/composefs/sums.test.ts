import { expect, test } from 'vitest';
import { crc32c } from '../../../src/composefs/crc32c.ts';
import { xxh32 } from '../../../src/composefs/xxhash.ts';

// The specification's empty input, and values that the reference implementation (xxhsum -H0) prints.
test.each([
  ['', 0, 0x02cc5d05],
  ['a', 0, 0x550d7456],
  ['abc', 0, 0x32d153ff],
  ['Nobody inspects the spammish repetition', 0, 0xe2293b2f],
])('xxh32 of %j with seed %i', (text, seed, hash) => {
  expect(xxh32(Buffer.from(text), seed)).toBe(hash);
});

test('crc32c is the check value of CRC-32/ISCSI before its final inversion', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe((0xe3069283 ^ 0xffffffff) >>> 0);
});
