import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { verityDigest } from '../../../src/verity/verity.ts';
import { digestHex } from '../../../src/base/digest.ts';
import type { Collection, Garbage } from '../../../src/store/collect-garbage.ts';
import { collectGarbage } from '../../../src/store/collect-garbage.ts';
import { formatObjects, HandedOutImages } from '../../../src/store/handed-out.ts';
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
    expect(service.renew(a, true, now)).toBe(false);
    service.record(a, formatObjects(['aa/1', 'aa/2']), now - 2 * hour);
    service.record(b, formatObjects([]), now - hour);
    expect(service.renew(a, true, now)).toBe(true);
    const read = new HandedOutImages(folder).read();
    expect(read.map((image) => ({ ...image, at: Math.round(image.at) })).sort((x, y) => x.at - y.at)).toEqual(
      [
        { digest: b, at: now - hour, objects: [] },
        { digest: a, at: now, objects: ['aa/1', 'aa/2'] },
      ],
    );
  });

  test('is written anew where a machine that stopped left an empty record', () => {
    const service = new HandedOutImages(folder);
    service.record(a, '', now);
    expect(service.renew(a, true, now)).toBe(false);
    expect(service.renew(a, false, now)).toBe(true);
  });

  test('is read again where it is newer, and only there', () => {
    const [service, collector] = [new HandedOutImages(folder), new HandedOutImages(folder)];
    service.record(a, formatObjects(['aa/1']), now - hour);
    service.record(b, formatObjects(['bb/1']), now - hour);
    expect(collector.read()).toHaveLength(2);
    expect(collector.readNewer()).toEqual([]);
    service.renew(b, true, now);
    service.record(c, formatObjects(['cc/1']), now);
    expect(collector.readNewer().flatMap(({ objects }) => objects)).toEqual(
      expect.arrayContaining(['bb/1', 'cc/1']),
    );
    expect(collector.readNewer()).toEqual([]);
  });

  test('goes once it is old and mounted nowhere; what a killed service left unfinished goes at once', () => {
    const service = new HandedOutImages(folder);
    const records = join(folder, 'handed-out');
    service.record(a, formatObjects(['aa/1']), now - 2 * hour);
    service.record(b, formatObjects(['bb/1']), now - 2 * hour);
    service.record(c, formatObjects(['cc/1']), now - hour / 2);
    writeFileSync(join(records, '.tmp-77-aa'), 'aa');
    writeFileSync(join(records, 'README'), 'not ours');
    expect(service.prune(() => new Set([b]), now)).toBe(2);
    expect(readdirSync(records).sort()).toEqual([digestHex(b), digestHex(c), 'README'].sort());
  });

  test('stays where it cannot be told what is mounted', () => {
    const service = new HandedOutImages(folder);
    service.record(a, formatObjects(['aa/1']), now - 2 * hour);
    const blind = (): never => {
      throw new Error('not to be seen');
    };
    expect(() => service.prune(blind, now)).toThrow('not to be seen');
    expect(service.read()).toHaveLength(1);
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

function collect(store: string, more: Partial<Collection> = {}): Promise<Garbage> {
  return collectGarbage(store, {
    ...{ images: [], handedOut: new HandedOutImages(folder), mounted: () => new Set(), now },
    ...{ dryRun: false, unknownMounts: 'refuse', patienceMilliseconds: 0 },
    ...more,
  });
}

test('what is handed out while garbage is collected stays', async () => {
  const store = join(folder, 'store');
  const objects = ['00', '80', 'ff'].map((start) => `${start}/${start.repeat(31)}`);
  for (const object of objects) {
    mkdirSync(join(store, dirname(object)), { recursive: true });
    writeFileSync(join(store, object), '');
  }
  const service = new HandedOutImages(folder);
  const { removed } = await collect(store, {
    onProgress: (looked) => {
      if (looked === 1) service.record(a, formatObjects(objects.slice(2)), now);
    },
  });
  expect(removed).toEqual(objects.slice(0, 2));
});

describe('the lock of a store', () => {
  test('lets many add, and one collect while nobody adds', async () => {
    const first = lockStore(folder, 'add');
    const second = lockStore(folder, 'add');
    await expect(collect(folder)).rejects.toThrow('objects are being added');
    first.close();
    second.close();
    const collecting = lockStore(folder, 'collect');
    expect(() => lockStore(folder, 'add')).toThrow('objects are being removed');
    collecting.close();
    expect((await collect(folder)).removed).toEqual([]);
  });

  test('is waited for where somebody adds a little', async () => {
    const adding = lockStore(folder, 'add');
    const collecting = collect(folder, { patienceMilliseconds: 60_000 });
    adding.close();
    expect((await collecting).removed).toEqual([]);
  });
});
