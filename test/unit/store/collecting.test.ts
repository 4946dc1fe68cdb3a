import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { verityDigest } from '../../../src/verity/verity.ts';
import { collectGarbage } from '../../../src/store/collect-garbage.ts';
import { HandedOutImages } from '../../../src/store/handed-out.ts';
import { mountedImages } from '../../../src/store/mounted-images.ts';
import type { Needs } from '../../../src/store/needed-objects.ts';
import { neededObjects } from '../../../src/store/needed-objects.ts';
import { lockStore } from '../../../src/store/store-lock.ts';

const [a, b, c] = ['a', 'b', 'c'].map((text) => verityDigest(Buffer.from(text))) as [never, never, never];
const hour = 60 * 60 * 1000;
const now = Date.now();

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-collecting-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function needed(needs: Partial<Needs>): string[] {
  const nothing = {
    images: [],
    handedOut: [],
    mounted: new Set<never>(),
    now,
    unknownMounts: 'refuse',
  } as const;
  return [...neededObjects({ ...nothing, ...needs })].sort();
}

describe('what is needed', () => {
  test('is what the images need, what was handed out within the hour, and what is mounted however old', () => {
    const images = [{ digest: a, objects: ['aa/1', 'aa/2'] }];
    const old = { digest: b, at: now - 2 * hour, objects: ['bb/1'] };
    const recent = { digest: c, at: now - hour / 2, objects: ['cc/1', 'aa/1'] };
    expect(needed({ images, handedOut: [old, recent] })).toEqual(['aa/1', 'aa/2', 'cc/1']);
    expect(needed({ images, handedOut: [old, recent], mounted: new Set([a, b]) })).toEqual([
      'aa/1',
      'aa/2',
      'bb/1',
      'cc/1',
    ]);
  });

  test('cannot be told while something is mounted that nobody knows', () => {
    expect(() => needed({ mounted: new Set([b]) })).toThrow(b);
    expect(needed({ mounted: new Set([b]), unknownMounts: 'ignore' })).toEqual([]);
  });
});

describe('what was handed out', () => {
  test('is there again for another process, as old as the last time', () => {
    const service = new HandedOutImages(folder);
    service.record(a, ['aa/1', 'aa/2'], now - 2 * hour);
    service.record(b, [], now - hour);
    service.record(a, ['aa/1', 'aa/2'], now);
    const read = new HandedOutImages(folder).read();
    expect(read.map((image) => ({ ...image, at: Math.round(image.at) })).sort((x, y) => x.at - y.at)).toEqual(
      [
        { digest: b, at: now - hour, objects: [] },
        { digest: a, at: now, objects: ['aa/1', 'aa/2'] },
      ],
    );
  });

  test('is nothing where no service ever ran', () => {
    expect(new HandedOutImages(join(folder, 'none')).read()).toEqual([]);
  });
});

test('a mount is seen in every namespace, and from every root in it', () => {
  const mount = (digest: string): string => `36 35 0:40 / /mnt ro,nodev shared:1 - overlay ${digest} ro\n`;
  const add = (pid: number, namespace: string, root: string, mountinfo: string): void => {
    mkdirSync(join(folder, `${pid}/ns`), { recursive: true });
    symlinkSync(`mnt:[${namespace}]`, join(folder, `${pid}/ns/mnt`));
    symlinkSync(root, join(folder, `${pid}/root`));
    writeFileSync(join(folder, `${pid}/mountinfo`), mountinfo);
  };
  add(1, '1', '/', '22 1 8:1 / / rw - ext4 /dev/vda rw\n');
  add(2, '2', '/', mount(a));
  add(3, '1', '/chroot', mount(b));
  // Ended, or a kernel thread: nothing of it can be read.
  mkdirSync(join(folder, '4'));
  mkdirSync(join(folder, 'sys'));
  expect(mountedImages(folder)).toEqual(new Set([a, b]));
});

describe('the lock of a store', () => {
  test('lets many add, and one collect while nobody adds', () => {
    const first = lockStore(folder, 'add');
    const second = lockStore(folder, 'add');
    expect(() => collectGarbage(folder, new Set(), { dryRun: true, now })).toThrow('objects are being added');
    first.close();
    second.close();
    const collecting = lockStore(folder, 'collect');
    expect(() => lockStore(folder, 'add')).toThrow('objects are being removed');
    collecting.close();
    expect(collectGarbage(folder, new Set(), { dryRun: true, now }).removed).toEqual([]);
  });
});
