import { expect, test } from 'vitest';
import { VerityHasher, verityDigest } from '../../../src/verity/verity.ts';

/** Bytes that repeat with a period that divides no block. */
function pattern(bytes: number): Buffer {
  const period = Buffer.from(Array.from({ length: 251 }, (_, index) => index));
  return Buffer.alloc(bytes, period);
}

// From fsverity-utils 1.5, `fsverity digest`: sizes around one block, one level and two levels of the Merkle tree.
const known: readonly [number, string][] = [
  [0, '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95'],
  [1, 'b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551'],
  [4096, '13e9b8848ae484a36acb3f3cac0ceb2f7601e96633d15c92f9bd3dd44e492157'],
  [4097, 'b0d074abef4d544404facfab6ba242f6a8ccbde90f1325cd286f3c8aa8d0f8aa'],
  [524288, 'd82861203d50ae9b60948504a704f35f5118bd229aeb1a22d6dae47b1767c4c4'],
  [524289, '4dc6905041c9c4ee73e13b53f63f5d289c46da359b664a965ead7f8cc4d799d4'],
  [67108865, 'acba6554fbff4e8b2fc0361086b9e8ed6afbbd3196ade159c0f3e2bf9ecb2ed1'],
];

test.each(known)('the digest of %i bytes is what fsverity-utils computes', (bytes, hex) => {
  expect(verityDigest(pattern(bytes))).toBe(`sha256:${hex}`);
});

test('a digest does not depend on what was hashed before, whatever its size', () => {
  for (const [bytes, hex] of [...known].reverse()) expect(verityDigest(pattern(bytes))).toBe(`sha256:${hex}`);
});

test.each([1, 17, 4095, 4096, 4097, 10_000, 600_000])(
  'chunks of %i bytes give the same digest',
  (chunkBytes) => {
    const bytes = pattern(524_289 + 3 * 4096);
    const hasher = new VerityHasher();
    for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
      hasher.update(bytes.subarray(offset, offset + chunkBytes));
    }
    expect(hasher.digest()).toBe(verityDigest(bytes));
  },
);

test('empty chunks change nothing', () => {
  const hasher = new VerityHasher();
  hasher.update(new Uint8Array(0));
  hasher.update(pattern(4096));
  hasher.update(new Uint8Array(0));
  expect(hasher.digest()).toBe(verityDigest(pattern(4096)));
});

test('the size is part of the digest', () => {
  expect(verityDigest(Buffer.alloc(10))).not.toBe(verityDigest(Buffer.alloc(11)));
});
