import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { immutableImage, openImmutableImage } from '../../../src/client/sealed-image.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { getSeals, openFile } from '../../../src/sys/file.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-client-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function file(bytes: Uint8Array): string {
  const path = join(folder, 'image');
  writeFileSync(path, bytes);
  return path;
}

describe('an image that can no longer change', () => {
  test('a plain file is copied into a sealed memfd', () => {
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17, 'image');
    using image = openImmutableImage(file(bytes)).fd;
    expect(readFileSync(`/proc/self/fd/${image.number}`).equals(bytes)).toBe(true);
    expect(getSeals(image.number)).toEqual(new Set(['seal', 'shrink', 'grow', 'write']));
    expect(() => writeSync(image.number, 'x', 0)).toThrow(/EPERM/);
  });

  test('a memfd that is sealed is passed as it is', () => {
    using first = openImmutableImage(file(Buffer.from('image'))).fd;
    const second = immutableImage(first.number, 'it');
    using fd = second.fd;
    expect(second.kind).toBe('memfd');
    const inode = (number: number): string =>
      readFileSync(`/proc/self/fdinfo/${number}`, 'utf8').split('ino:')[1] ?? '';
    expect(inode(fd.number)).toBe(inode(first.number));
  });

  test('the position of a descriptor does not matter', () => {
    using opened = new OwnedFd(openSync(file(Buffer.from('image')), 'r'));
    readFileSync(opened.number);
    using image = immutableImage(opened.number, 'it').fd;
    expect(readFileSync(`/proc/self/fd/${image.number}`, 'utf8')).toBe('image');
  });

  test('a descriptor with O_PATH is opened', () => {
    using place = openFile(file(Buffer.from('image')), { pathOnly: true });
    using image = immutableImage(place.number, 'it').fd;
    expect(readFileSync(`/proc/self/fd/${image.number}`, 'utf8')).toBe('image');
  });

  test('what is no image file', () => {
    expect(() => openImmutableImage(folder)).toThrow(new RangeError(`${folder} is not a regular file`));
    expect(() => openImmutableImage(file(Buffer.alloc(0)))).toThrow(/is empty$/);
    expect(() => openImmutableImage(join(folder, 'none'))).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    expect(() => openImmutableImage(fifo)).toThrow(/is not a regular file$/);
  });
});
