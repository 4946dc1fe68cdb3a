import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Digest } from '../../src/base/digest.ts';
import { measureFile } from '../../src/daemon/threads/copy-image.ts';
import { DigestIndex } from '../../src/daemon/images/digest-index.ts';
import { ImageFolders, NotTrusted } from '../../src/daemon/images/image-folders.ts';
import { Installed } from '../../src/daemon/images/installed.ts';
import { policyOf } from '../unit/policy/policy-of.ts';
import { digestOf, makePlace } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { until } from './acceptance-room.ts';

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

describe.skipIf(needs('kernel', isRoot, 'only root can install images'))('installed images by digest', () => {
  const digest = (text: string): Digest => digestOf(Buffer.from(text));

  /** A folder of two images, and an index of it that counts what it looks at. */
  function indexed(): { folder: string; index: DigestIndex; looks: string[]; directories: string[] } {
    const place = makePlace('indexed');
    const images = join(place.folder, 'images');
    mkdirSync(join(images, 'deep/er'), { recursive: true });
    writeFileSync(join(images, 'one.cfs'), 'one');
    writeFileSync(join(images, 'deep/er/two.cfs'), 'two');
    const looks: string[] = [];
    const index = new DigestIndex((name, directories) => {
      looks.push(name);
      const places = directories.map((directory) => join(directory, `${name}.cfs`));
      const path = places.find((place) => existsSync(place));
      return path === undefined ? undefined : digestOf(readFileSync(path));
    });
    onTestFinished(() => {
      index.close();
      place.remove();
    });
    return { folder: images, index, looks, directories: [images, join(place.folder, 'none')] };
  }

  test('are looked at once, however many ask for what is nowhere, and for how long', async () => {
    const { folder, index, looks, directories } = indexed();
    await index.begin(directories);
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    for (let hour = 0; hour < 5; hour += 1) {
      const asked = Array.from({ length: 20 }, () => index.names(digest('nowhere'), directories));
      expect((await Promise.all(asked)).flat()).toEqual([]);
      vi.advanceTimersByTime(3_600_000);
    }
    expect(await index.names(digest('two'), directories)).toEqual(['deep/er/two']);
    expect(looks).toEqual(['one', 'deep/er/two']);
    // The other directory comes to be.
    renameSync(join(folder, 'deep'), directories[1] ?? '');
    expect(await index.names(digest('two'), directories)).toEqual(['er/two']);
  });

  test('are looked at again once something has changed, by who asks first or without anybody', async () => {
    const { folder, index, looks, directories } = indexed();
    await index.begin(directories);
    writeFileSync(join(folder, 'deep/three.cfs'), 'three');
    expect(await index.names(digest('three'), directories)).toEqual(['deep/three']);
    writeFileSync(join(folder, 'deep/er/two.cfs'), 'other');
    expect(await index.names(digest('two'), directories)).toEqual([]);
    renameSync(join(folder, 'deep'), join(folder, 'moved'));
    expect(await index.names(digest('three'), directories)).toEqual(['moved/three']);
    renameSync(folder, `${folder}.old`);
    expect(await index.names(digest('one'), directories)).toEqual([]);
    renameSync(`${folder}.old`, folder);
    expect(await index.names(digest('one'), directories)).toEqual(['one']);
    looks.length = 0;
    rmSync(join(folder, 'one.cfs'));
    await until('they were looked at', () => looks.length > 0);
    expect(await index.names(digest('one'), directories)).toEqual([]);
    expect(looks).toEqual(['moved/three', 'moved/er/two']);
  });

  test('are found also while many change, and by who asks in between', async () => {
    const { folder, index, directories } = indexed();
    const asked: Promise<readonly string[]>[] = [];
    for (let count = 0; count < 40; count += 1) {
      writeFileSync(join(folder, `${count}.cfs`), String(count));
      asked.push(index.names(digest(String(count)), directories));
      if (count % 8 === 0) await setImmediate();
    }
    expect((await Promise.all(asked)).flat()).toEqual(
      Array.from({ length: 40 }, (_, count) => String(count)),
    );
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
