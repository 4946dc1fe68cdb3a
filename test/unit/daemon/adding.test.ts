import { describe, expect, test } from 'vitest';
import type { Digest } from '../../../src/base/digest.ts';
import type { ImageScan } from '../../../src/composefs/scan.ts';
import { AddingQuota, chargedBytes } from '../../../src/daemon/adding/adding-quota.ts';
import { Contents } from '../../../src/daemon/images/contents.ts';
import { limits } from '../../../src/daemon/callers/limits.ts';
import { hasSize, placeOf, tabulate, type ScannedImage } from '../../../src/daemon/threads/object-table.ts';
import type { Peer } from '../../../src/daemon/callers/peer.ts';
import { parseAddObjectsRequest } from '../../../src/daemon/calls/request.ts';
import { ShownImages } from '../../../src/daemon/images/shown-images.ts';
import { wantedObjects } from '../../../src/daemon/adding/wanted-objects.ts';
import { policyOf } from '../policy/policy-of.ts';
import { objectPath } from '../../../src/store/objects.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

const digest = (name: string): Digest => verityDigest(Buffer.from(name));

function scanOf(objects: readonly string[], more: Partial<ImageScan> = {}): ScannedImage {
  return tabulate({
    fileSystem: 'composefs',
    formatVersion: 1,
    devices: false,
    devicePath: undefined,
    objects,
    objectDigests: objects.map(() => undefined),
    objectSizes: objects.map((_, index) => 100 + index),
    missingDigest: false,
    bytes: 4096,
    inodes: 1,
    ...more,
  });
}

describe('a quota', () => {
  const hour = limits.addedMilliseconds;
  const exceeded = (limit: string, value: number): object => ({ parameters: { limit, value } });

  test('counts whole blocks, so that small files cost what they take', () => {
    expect(chargedBytes([1, 4096, 4097])).toBe(4 * 4096);
    expect(chargedBytes([])).toBe(0);
  });

  test('is what the rule says, or what the table says', () => {
    const quota = new AddingQuota();
    quota.take(1, 600, 1000, 0);
    expect(() => {
      quota.take(1, 500, 1000, 1);
    }).toThrow(expect.objectContaining(exceeded('addedBytesPerUser', 1000)));
    quota.take(1, 400, 1000, 1);
    quota.take(1, 5000, undefined, 2);
    expect(() => {
      quota.take(1, limits.addedBytesPerUser, undefined, 3);
    }).toThrow(expect.objectContaining(exceeded('addedBytesPerUser', limits.addedBytesPerUser)));
    quota.take(2, 1000, 1000, 3);
  });

  test('begins anew after an hour from the first file', () => {
    const quota = new AddingQuota();
    quota.take(1, 1000, 1000, 10);
    expect(() => {
      quota.take(1, 1, 1000, 10 + hour - 1);
    }).toThrow();
    quota.take(1, 1000, 1000, 10 + hour);
  });

  test('takes back what was not needed, and never below nothing', () => {
    const quota = new AddingQuota();
    quota.take(1, 1000, 1000, 0);
    quota.giveBack(1, 400);
    quota.take(1, 400, 1000, 0);
    quota.giveBack(1, 5000);
    quota.take(1, 1000, 1000, 0);
    quota.giveBack(7, 1);
    expect(() => {
      quota.take(1, 1, 1000, 0);
    }).toThrow();
  });

  test('bounds all users together', () => {
    const quota = new AddingQuota();
    const share = limits.addedBytesPerUser;
    const users = Math.floor(limits.addedBytes / share);
    for (let user = 0; user < users; user += 1) quota.take(user, share, undefined, 0);
    expect(() => {
      quota.take(users, share, undefined, 0);
    }).toThrow(expect.objectContaining(exceeded('addedBytes', limits.addedBytes)));
    quota.take(users, share, undefined, hour);
  });
});

describe('what an image wants', () => {
  const path = objectPath(digest('a'));

  test('is known by path and by size', () => {
    const wanted = wantedObjects(scanOf([path]));
    expect(placeOf(wanted, path)).toBe(0);
    expect(placeOf(wanted, objectPath(digest('b')))).toBe(-1);
    expect([99, 100, 101].map((size) => hasSize(wanted, size))).toEqual([false, true, false]);
  });

  test('is nothing for an image of another filesystem', () => {
    expect(() => wantedObjects(scanOf([], { fileSystem: 'erofs' }))).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/IncompatibleImage$/) as unknown }),
    );
  });
});

describe('images that were shown', () => {
  const policy = policyOf('');
  const peer = (): Peer => ({ user: 1000 }) as Peer;
  const taken: string[] = [];
  const images = {
    take: (request: { kind: string }): never => {
      taken.push(request.kind);
      throw new Error('asked for it');
    },
  };

  test('stand for themselves on their connection, as long as their contents are remembered', () => {
    const contents = new Contents({ entries: 1, bytes: 1 << 20 });
    const shown = new ShownImages(images, contents);
    const [one, other] = [peer(), peer()];
    const request = { kind: 'digest', digest: digest('a') } as const;
    const scan = scanOf([]);
    contents.set(digest('a'), scan);
    expect(() => shown.take(request, one, policy)).toThrow('asked for it');
    shown.remember({ kind: 'descriptor', fd: 3, field: 'image' }, one, digest('a'));
    const image = shown.take(request, one, policy);
    expect(image).toMatchObject({ digest: digest('a') });
    expect('scan' in image && image.scan()).toBe(scan);
    expect(() => shown.take(request, other, policy)).toThrow('asked for it');
    contents.set(digest('b'), scanOf([]));
    expect(() => shown.take(request, one, policy)).toThrow('asked for it');
  });

  test('are few for one connection, and installed ones are none of them', () => {
    const contents = new Contents({ entries: 100, bytes: 1 << 20 });
    const shown = new ShownImages(images, contents);
    const one = peer();
    const take = (name: string): unknown => shown.take({ kind: 'digest', digest: digest(name) }, one, policy);
    for (let index = 0; index < 9; index += 1) {
      contents.set(digest(`${index}`), scanOf([]));
      shown.remember({ kind: 'descriptor', fd: 3, field: 'image' }, one, digest(`${index}`));
    }
    expect(() => take('0')).toThrow('asked for it');
    expect(take('1')).toMatchObject({ digest: digest('1') });
    contents.set(digest('named'), scanOf([]));
    shown.remember({ kind: 'name', name: 'named' }, one, digest('named'));
    expect(() => take('named')).toThrow('asked for it');
  });
});

describe('a request to add', () => {
  test('of the fewest parameters asks for what is missing', () => {
    expect(parseAddObjectsRequest({ image: { name: 'a' } }, [])).toMatchObject({
      image: { kind: 'name', name: 'a' },
      fileSystem: 'composefs',
      addTo: { store: undefined },
      objects: [],
      missing: { from: 0, most: limits.missingListed },
    });
  });

  test('names each descriptor once, the image’s among them', () => {
    const parameters = { image: { fileDescriptor: 1 }, objectFileDescriptors: [2, 0], missingMost: 100_000 };
    expect(parseAddObjectsRequest(parameters, [10, 11, 12])).toMatchObject({
      objects: [
        { fd: 12, field: 'objectFileDescriptors[0]' },
        { fd: 10, field: 'objectFileDescriptors[1]' },
      ],
      missing: { most: limits.missingListed },
    });
    expect(() =>
      parseAddObjectsRequest({ image: { fileDescriptor: 0 }, objectFileDescriptors: [0] }, [10]),
    ).toThrow(/named twice/);
    expect(() => parseAddObjectsRequest({ image: { name: 'a' }, missingMost: -1 }, [])).toThrow(/below 0/);
    expect(() => parseAddObjectsRequest({ image: { name: 'a' }, store: 'x'.repeat(256) }, [])).toThrow(
      /longer than 255/,
    );
  });
});
