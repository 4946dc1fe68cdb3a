import { chmodSync, mkdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Digest } from '../../src/base/digest.ts';
import { measureFile } from '../../src/daemon/copy-image.ts';
import { ImageFolders, NotTrusted } from '../../src/daemon/image-folders.ts';
import { Installed } from '../../src/daemon/installed.ts';
import { policyOf } from '../unit/policy/policy-of.ts';
import { digestOf, makePlace } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const limits = { images: 8, imageBytes: 1 << 20, signatureFileBytes: 65_536 };

const older = Buffer.alloc(4096, 'older');
const newer = Buffer.alloc(4096, 'newer');

/** The image `app` in a folder of its own, and what is done to its file while it is measured. */
function image(meanwhile: (path: string, times: number) => void): { readonly digest: () => Promise<Digest> } {
  const place = makePlace('installed');
  const path = join(place.folder, 'app.cfs');
  writeFileSync(path, older);
  let times = 0;
  const installed = new Installed(limits, (fd, bytes) => {
    const digest = measureFile(fd, bytes);
    meanwhile(path, (times += 1));
    return Promise.resolve(digest);
  });
  onTestFinished(() => {
    installed.close();
    place.remove();
  });
  const policy = policyOf(`[[image-directories]]\npath = "${place.folder}"\n`);
  return {
    digest: async () => {
      const found = await installed.byName('app', policy);
      found.release();
      return found.digest;
    },
  };
}

function replace(path: string, bytes: Uint8Array): void {
  writeFileSync(`${path}.new`, bytes);
  renameSync(`${path}.new`, path);
}

describe.skipIf(needs('kernel', isRoot, 'only root can install images'))('an installed image', () => {
  test('that is replaced while it is measured is the new one', async () => {
    const { digest } = image((path, times) => {
      if (times === 1) replace(path, newer);
    });
    expect(await digest()).toBe(digestOf(newer));
    expect(await digest()).toBe(digestOf(newer));
  });

  test('that changes each time it is measured is refused', async () => {
    const { digest } = image((path) => {
      utimesSync(path, 1, 1);
    });
    await expect(digest()).rejects.toThrow(/app\.cfs changed while it was read/);
  });
});

describe.skipIf(needs('kernel', isRoot, 'only root can own image directories'))('an image directory', () => {
  test('that others can reach into by now is noticed, though the clock was set back', () => {
    const place = makePlace('installed');
    const above = join(place.folder, 'above');
    const images = join(above, 'images');
    mkdirSync(images, { recursive: true });
    const folders = new ImageFolders();
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
      folders.close();
      place.remove();
    });
    expect(folders.open(images)?.location).toBe(images);
    chmodSync(above, 0o777);
    vi.setSystemTime(Date.now() - 3_600_000);
    vi.advanceTimersByTime(2000);
    expect(() => folders.open(images)).toThrow(NotTrusted);
  });
});
