import { expect, test, vi } from 'vitest';
import type { Digest } from '../../../src/base/digest.ts';
import { Contents } from '../../../src/daemon/images/contents.ts';
import { tabulate, type ScannedImage } from '../../../src/daemon/threads/object-table.ts';
import { handedOutMilliseconds } from '../../../src/store/handed-out.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

function scan(objects = 0): ScannedImage {
  return tabulate({
    fileSystem: 'composefs',
    formatVersion: 1,
    devices: false,
    devicePath: undefined,
    objects: Array.from({ length: objects }, (_, index) => `00/${index}`),
    objectDigests: [],
    objectSizes: [],
    missingDigest: false,
    bytes: 4096,
    inodes: 1,
  });
}

const digest = (name: string): Digest => verityDigest(Buffer.from(name));

test('the image used longest ago goes first', () => {
  const contents = new Contents({ entries: 2, bytes: 1 << 20 });
  contents.set(digest('a'), scan());
  contents.set(digest('b'), scan());
  expect(contents.get(digest('a'))).toEqual(scan());
  contents.set(digest('c'), scan());
  expect(contents.get(digest('b'))).toBeUndefined();
  expect(contents.get(digest('a'))).toEqual(scan());
  expect(contents.get(digest('c'))).toEqual(scan());
});

test('bounded in bytes as well, and one that alone is too large is not kept', () => {
  const contents = new Contents({ entries: 100, bytes: 4000 });
  contents.set(digest('large'), scan(100));
  expect(contents.get(digest('large'))).toBeUndefined();
  for (const name of ['a', 'b', 'c']) contents.set(digest(name), scan(10));
  expect(contents.get(digest('a'))).toBeUndefined();
  expect(contents.get(digest('c'))).toEqual(scan(10));
});

test('remembers the stores in which nothing was missing', () => {
  const contents = new Contents({ entries: 2, bytes: 1 << 20 });
  contents.setComplete(digest('a'), 'store');
  expect(contents.isComplete(digest('a'), 'store')).toBe(false);
  contents.set(digest('a'), scan());
  contents.setComplete(digest('a'), 'store');
  expect(contents.isComplete(digest('a'), 'store')).toBe(true);
  expect(contents.isComplete(digest('a'), 'another')).toBe(false);
  expect(contents.isComplete(digest('b'), 'store')).toBe(false);
});

test('believes what it remembers of stores for as long as their garbage is kept', () => {
  const clock = vi.spyOn(performance, 'now');
  try {
    const contents = new Contents({ entries: 2, bytes: 1 << 20 });
    contents.set(digest('a'), scan());
    clock.mockReturnValue(0);
    contents.setComplete(digest('a'), 'store');
    clock.mockReturnValue(handedOutMilliseconds - 1);
    expect(contents.isComplete(digest('a'), 'store')).toBe(true);
    clock.mockReturnValue(handedOutMilliseconds);
    expect(contents.isComplete(digest('a'), 'store')).toBe(false);
  } finally {
    clock.mockRestore();
  }
});
