import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import type { Directory, Entry, Tree } from '../../../src/composefs/tree.ts';
import { measureContent } from '../../../src/store/content.ts';
import type { Measured } from '../../../src/store/content.ts';
import { objectPath } from '../../../src/store/objects.ts';
import type { ScanOptions } from '../../../src/store/scan-directory.ts';
import { scanDirectory, ScanError } from '../../../src/store/scan-directory.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-scan-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const keep = (fd: number, size: number): Promise<Measured> => measureContent(fd, size);

function scan(options: Partial<ScanOptions> = {}): Promise<Tree> {
  return scanDirectory(folder, { keep, ...options });
}

function entry(directory: Directory, name: string): Entry {
  const found = directory.entries.get(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

describe('what a directory becomes', () => {
  test('files are inline up to 64 bytes, and else named by their digest', async () => {
    writeFileSync(join(folder, 'empty'), '');
    writeFileSync(join(folder, 'small'), 'a'.repeat(64));
    writeFileSync(join(folder, 'large'), 'b'.repeat(65));
    const { root } = await scan();
    expect(entry(root, 'empty')).toMatchObject({ type: 'file', size: 0, content: { kind: 'inline' } });
    expect(entry(root, 'small')).toMatchObject({
      size: 64,
      content: { kind: 'inline', bytes: new Uint8Array(Buffer.from('a'.repeat(64))) },
    });
    const digest = verityDigest(Buffer.from('b'.repeat(65)));
    expect(entry(root, 'large')).toMatchObject({
      size: 65,
      content: { kind: 'external', digest, path: objectPath(digest) },
    });
  });

  test('links, pipes and sockets are what they are, and a link is not followed', async () => {
    symlinkSync('/nowhere/at all', join(folder, 'link'));
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve));
    try {
      const { root } = await scan();
      expect(entry(root, 'link')).toMatchObject({ type: 'symlink', target: '/nowhere/at all', nlink: 1 });
      expect(entry(root, 'pipe')).toMatchObject({ type: 'fifo' });
      expect(entry(root, 'socket')).toMatchObject({ type: 'socket' });
    } finally {
      server.close();
    }
  });

  test('two names of one file are one inode with two names', async () => {
    mkdirSync(join(folder, 'below'));
    writeFileSync(join(folder, 'z'), 'c'.repeat(100));
    linkSync(join(folder, 'z'), join(folder, 'below', 'y'));
    const { root } = await scan();
    const below = entry(root, 'below');
    if (below.type !== 'directory') throw new Error('not a directory');
    const first = entry(below, 'y');
    expect(first).toMatchObject({ type: 'file', nlink: 2 });
    const second = entry(root, 'z');
    expect(second.type === 'link' && second.target === first).toBe(true);
  });

  test('a file with names elsewhere counts only those that the tree holds', async () => {
    mkdirSync(join(folder, 'tree'));
    writeFileSync(join(folder, 'outside'), 'd');
    linkSync(join(folder, 'outside'), join(folder, 'tree', 'inside'));
    const { root } = await scanDirectory(join(folder, 'tree'), { keep });
    expect(entry(root, 'inside')).toMatchObject({ type: 'file', nlink: 1 });
  });

  test('names that are not UTF-8 keep their bytes', async () => {
    const name = Buffer.from([0x66, 0xff, 0xc3]);
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), name]), 'x');
    const directory = Buffer.from([0x80]);
    mkdirSync(Buffer.concat([Buffer.from(`${folder}/`), directory]));
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), directory, Buffer.from('/in')]), 'y'.repeat(70));
    const { root } = await scan();
    expect([...root.entries.keys()]).toEqual(['f\xff\xc3', '\x80']);
    const below = entry(root, '\x80');
    expect(below.type === 'directory' && below.entries.has('in')).toBe(true);
  });

  test('modes and times are taken to the bit and the nanosecond, also before 1970', async () => {
    const path = join(folder, 'old');
    writeFileSync(path, '');
    chmodSync(path, 0o4751);
    execFileSync('touch', ['-d', '@-1.25', path]);
    const { root } = await scan();
    expect(entry(root, 'old')).toMatchObject({
      mode: 0o4751,
      mtime: { seconds: -2n, nanoseconds: 750_000_000 },
    });
    execFileSync('touch', ['-d', '@1700000000.123456789', path]);
    expect(entry((await scan()).root, 'old')).toMatchObject({
      mtime: { seconds: 1_700_000_000n, nanoseconds: 123_456_789 },
    });
  });

  test('an owner that is given takes the place of every owner', async () => {
    mkdirSync(join(folder, 'a'));
    writeFileSync(join(folder, 'a', 'b'), '');
    const { root } = await scan({ owner: { uid: 12, gid: 34 } });
    expect(root).toMatchObject({ uid: 12, gid: 34 });
    const below = entry(root, 'a');
    expect(below.type === 'directory' && entry(below, 'b')).toMatchObject({ uid: 12, gid: 34 });
  });

  test('the source itself may be named by a link, and end in slashes', async () => {
    mkdirSync(join(folder, 'real'));
    writeFileSync(join(folder, 'real', 'file'), '');
    symlinkSync('real', join(folder, 'link'));
    const { root } = await scanDirectory(`${folder}/link//`, { keep });
    expect([...root.entries.keys()]).toEqual(['file']);
  });

  test('many files are read in any order and land in their places', async () => {
    for (let index = 0; index < 200; index++)
      writeFileSync(join(folder, String(index)), 'e'.repeat(65 + index));
    const { root } = await scan();
    for (let index = 0; index < 200; index++) {
      const digest = verityDigest(Buffer.from('e'.repeat(65 + index)));
      expect(entry(root, String(index))).toMatchObject({ content: { digest, path: objectPath(digest) } });
    }
  });
});

/** Waits until the clock that stamps files has moved on since `path` changed: on some kernels it ticks every 4 ms. */
async function settled(path: string): Promise<void> {
  const { ctimeNs } = statSync(path, { bigint: true });
  const probe = `${folder}.probe`;
  try {
    do {
      await setTimeout(1);
      writeFileSync(probe, '');
    } while (statSync(probe, { bigint: true }).ctimeNs <= ctimeNs);
  } finally {
    rmSync(probe);
  }
}

describe('what changes while it is read is named', () => {
  const large = 'f'.repeat(1000);

  async function failure(options: Partial<ScanOptions>): Promise<ScanError> {
    try {
      await scan(options);
    } catch (error) {
      if (error instanceof ScanError) return error;
      throw error;
    }
    throw new Error('the scan went well');
  }

  test('a file that grows', async () => {
    const path = join(folder, 'log');
    writeFileSync(path, large);
    const error = await failure({
      keep: (fd, size) => {
        appendFileSync(path, 'more');
        return keep(fd, size);
      },
    });
    expect(error).toMatchObject({
      path,
      reason: expect.stringContaining('changed while it was read') as string,
    });
  });

  test('a file that is overwritten in place with its old time', async () => {
    const path = join(folder, 'data');
    writeFileSync(path, large);
    utimesSync(path, 1000, 1000);
    await settled(path);
    const error = await failure({
      keep: async (fd, size) => {
        const measured = await keep(fd, size);
        writeFileSync(path, 'g'.repeat(1000));
        utimesSync(path, 1000, 1000);
        return measured;
      },
    });
    expect(error.path).toBe(path);
  });

  test('a file that vanishes between listing and reading', async () => {
    writeFileSync(join(folder, 'a'), large);
    writeFileSync(join(folder, 'b'), large);
    const error = await failure({
      keep: (fd, size) => {
        rmSync(join(folder, 'b'), { force: true });
        return keep(fd, size);
      },
    });
    expect(error).toMatchObject({
      path: join(folder, 'b'),
      reason: expect.stringContaining('vanished') as string,
    });
  });

  test('a directory that gains a file', async () => {
    writeFileSync(join(folder, 'a'), large);
    await settled(folder);
    const error = await failure({
      keep: (fd, size) => {
        writeFileSync(join(folder, 'b'), '');
        return keep(fd, size);
      },
    });
    expect(error.path).toBe(folder);
  });

  test('a directory that is replaced by a link leads nowhere', async () => {
    mkdirSync(join(folder, 'tree'));
    mkdirSync(join(folder, 'tree', 'b'));
    writeFileSync(join(folder, 'tree', 'b', '1'), large);
    writeFileSync(join(folder, 'tree', 'b', '2'), large);
    mkdirSync(join(folder, 'secret'));
    writeFileSync(join(folder, 'secret', '2'), 'secret'.repeat(100));
    await settled(join(folder, 'tree'));
    const seen: number[] = [];
    await expect(
      scanDirectory(join(folder, 'tree'), {
        keep: (fd, size) => {
          if (seen.length === 0) {
            renameSync(join(folder, 'tree', 'b'), join(folder, 'moved'));
            symlinkSync(join(folder, 'secret'), join(folder, 'tree', 'b'));
          }
          seen.push(size);
          return keep(fd, size);
        },
      }),
    ).rejects.toThrow(ScanError);
    expect(seen).toEqual([1000, 1000]);
  });

  test('what keeping throws comes out, and every other file is let go', async () => {
    for (let index = 0; index < 50; index++) writeFileSync(join(folder, String(index)), large);
    let open = 0;
    await expect(
      scan({
        keep: async (fd, size) => {
          open++;
          const measured = await keep(fd, size);
          open--;
          if (open < 8) throw new RangeError('no more room');
          return measured;
        },
      }),
    ).rejects.toThrow('no more room');
    expect(open).toBe(0);
  });
});

describe('what cannot be built from', () => {
  test('a file, or nothing', async () => {
    writeFileSync(join(folder, 'file'), '');
    await expect(scanDirectory(join(folder, 'file'), { keep })).rejects.toThrow(
      `${folder}/file: not a directory`,
    );
    unlinkSync(join(folder, 'file'));
    await expect(scanDirectory(join(folder, 'file'), { keep })).rejects.toThrow(/file: it is not there/);
  });

  test('a directory that holds the store', async () => {
    mkdirSync(join(folder, 'store'));
    await expect(scan({ outside: join(folder, 'store') })).rejects.toThrow(
      /store: the object store may not be/,
    );
  });
});
