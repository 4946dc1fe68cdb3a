import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { dumpImage } from '../../src/composefs/dump-image.ts';
import { readTree } from '../../src/composefs/read.ts';
import { scanImage } from '../../src/composefs/scan.ts';
import type { Inode } from '../../src/composefs/tree.ts';
import { needs } from '../support/needs.ts';
import { sid, sidMissing } from '../support/sid.ts';

const available = sid('mkfs.erofs') !== undefined;
const prefix = 'user.a.long.prefix.that.several.have';
const xattrs = [`${prefix}.one`, `${prefix}.two`, 'user.other'];

let folder: string;
let source: string;

beforeAll(() => {
  // On a filesystem that has extended attributes.
  folder = mkdtempSync('/var/tmp/cfs-plain-');
  source = join(folder, 'source');
  mkdirSync(join(source, 'dir'), { recursive: true });
  writeFileSync(join(source, 'text'), 'the same again and again\n'.repeat(20_000));
  writeFileSync(join(source, 'dir', 'small'), 'small\n');
  writeFileSync(join(source, 'sparse'), 'at the start');
  truncateSync(join(source, 'sparse'), 300_000);
  linkSync(join(source, 'text'), join(source, 'dir', 'again'));
  symlinkSync('dir/small', join(source, 'link'));
  for (const name of xattrs) execFileSync('setfattr', ['-n', name, '-v', name, join(source, 'dir', 'small')]);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** The image of the source as mkfs.erofs makes it with these options. */
function make(...options: readonly string[]): Buffer {
  const image = join(folder, 'image');
  const all = ['-Eforce-inode-extended', '-T0', '-U', 'clear', ...options, image, source];
  const [command, ...parameters] = sid('mkfs.erofs', ...all) ?? [''];
  rmSync(image, { force: true });
  execFileSync(command, parameters, { stdio: 'pipe' });
  return readFileSync(image);
}

/** Name, type and content form of each file, and the names of attributes. */
function listed(image: Uint8Array): string[] {
  const lines: string[] = [];
  const add = (path: string, inode: Inode): void => {
    const size = inode.type === 'file' ? inode.size : 0;
    lines.push([path, inode.type, size, ...inode.xattrs.map(({ name }) => name).sort()].join(' '));
    if (inode.type !== 'directory') return;
    for (const [name, entry] of inode.entries)
      add(`${path}/${name}`, entry.type === 'link' ? entry.target : entry);
  };
  add('', readTree(image).root);
  return lines.sort();
}

function forms(image: Uint8Array): string[] {
  return [...readTree(image).root.entries.values()].flatMap((entry) =>
    entry.type === 'file' ? [entry.content.kind === 'stored' ? entry.content.form : entry.content.kind] : [],
  );
}

describe.skipIf(needs('interop', available, sidMissing))('plain EROFS as mkfs.erofs makes it', () => {
  const compressed = [
    '-zlz4',
    '-zlz4hc -C65536',
    '-zlzma',
    '-zzstd -Efragments,dedupe',
    '-zdeflate -Eall-fragments',
  ];
  const chunked = ['--chunksize=4096', '--chunksize=65536', '--chunksize=4096 -Eforce-chunk-indexes'];

  test.each([...compressed, '-zlz4 -Eztailpacking'])('is listed where it is compressed: %s', (options) => {
    const image = make(...options.split(' '));
    expect(listed(image)).toEqual(listed(make()));
    expect(forms(image)).toContain('compressed');
    expect(scanImage(image).fileSystem).toBe('erofs');
    expect(() => dumpImage(image)).toThrow(/the content of inode \d+ is compressed/);
  });

  test.each(chunked)('is listed and dumped where it is in chunks: %s', (options) => {
    const image = make(...options.split(' '));
    expect(listed(image)).toEqual(listed(make()));
    expect(forms(image)).toContain('chunks');
    const lines = (bytes: Uint8Array): string[] =>
      Buffer.from(dumpImage(bytes)).toString('latin1').split('\n');
    expect(withoutOrder(lines(image))).toEqual(withoutOrder(lines(make())));
    expect(() => dumpImage(image, 100_000)).toThrow(/too large to be put together|larger than/);
  });

  test.each(['', '-zlz4', '--chunksize=4096'])('long attribute prefixes are read: %s', (options) => {
    const image = make(`--xattr-prefix=${prefix}`, ...options.split(' ').filter((word) => word !== ''));
    expect(image.readUInt8(1024 + 91)).toBe(1);
    expect(listed(image)).toEqual(listed(make()));
  });

  test.each([
    ['-E48bit', '48-bit addresses'],
    ['-b512', 'blocks have 2^9 bytes'],
    [
      `-zzstd -Efragments --xattr-prefix=${prefix}`,
      'the long attribute prefixes are in an inode that is compressed',
    ],
  ])('what is not read is named: %s', (options, reason) => {
    expect(() => readTree(make(...options.split(' ')))).toThrow(reason);
  });
});

/** Directories' sizes, and the order in which attributes stand, are the maker's business. */
function withoutOrder(lines: readonly string[]): string[] {
  return lines.map((line) => {
    const fields = line.split(' ');
    return [...fields.slice(0, 11), ...fields.slice(11).sort()].join(' ');
  });
}
