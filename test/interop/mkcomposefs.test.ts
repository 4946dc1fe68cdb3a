import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { formatDump } from '../support/format-dump.ts';
import { readTree } from '../../src/composefs/read.ts';
import type { WriteOptions } from '../../src/composefs/write.ts';
import type { BuildOptions, BuiltImage } from '../../src/store/build.ts';
import { buildImage, measureDirectory } from '../../src/store/build.ts';
import { ObjectStore } from '../../src/store/objects.ts';
import { isRoot, needs } from '../support/needs.ts';
import { sid, sidMissing } from '../support/sid.ts';

const available = sid('mkcomposefs') !== undefined;

function run(program: string, ...parameters: readonly string[]): Buffer {
  const [command, ...rest] = sid(program, ...parameters) ?? [''];
  return execFileSync(command, rest, { maxBuffer: 2 ** 30 });
}

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-mkcomposefs-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const versions: readonly WriteOptions[] = [
  { minVersion: 0, maxVersion: 1 },
  { minVersion: 0, maxVersion: 0 },
  { minVersion: 1, maxVersion: 1 },
];

function build(
  source: string,
  store: string,
  options: Omit<BuildOptions, 'source' | 'store'>,
): Promise<BuiltImage> {
  return buildImage({ source, store: ObjectStore.create(join(folder, store)), ...options });
}

/** What mkcomposefs makes of a directory, or with `--from-file` of a dump; its store is `theirs`. */
function theirs(
  source: string,
  { minVersion, maxVersion }: WriteOptions,
  ...more: readonly string[]
): Buffer {
  const output = join(folder, 'theirs.image');
  const bounds = [`--min-version=${minVersion}`, `--max-version=${maxVersion}`];
  run('mkcomposefs', ...more, ...bounds, source, output);
  return readFileSync(output);
}

function same(ours: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(ours, other) === 0;
}

function makeTree(tree: string): void {
  mkdirSync(tree);
  const sizes = [0, 1, 63, 64, 65, 100, 4095, 4096, 4097, 524_288, 1_234_567];
  for (const size of sizes)
    writeFileSync(join(tree, `size-${size}`), Buffer.alloc(size, `contents ${size} `));
  mkdirSync(join(tree, 'a directory\twith "odd" \\names'));
  for (const byte of [1, 9, 10, 32, 61, 92, 127, 128, 195, 255])
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/name-`), Buffer.from([byte, 0x2e, byte])]), 'x');
  writeFileSync(join(tree, 'ü€𝄞'.repeat(20)), 'not ASCII');
  writeFileSync(join(tree, 'n'.repeat(255)), 'the longest name');
  mkdirSync(join(tree, 'many'));
  for (let index = 0; index < 700; index++)
    writeFileSync(join(tree, 'many', `file number ${index}`), `${index}`);
  mkdirSync(join(tree, ...Array.from({ length: 60 }, (_, depth) => `level-${depth}`)), { recursive: true });
  symlinkSync('../somewhere else', join(tree, 'link'));
  symlinkSync(`/${'long/'.repeat(400)}`, join(tree, 'long-link'));
  symlinkSync(Buffer.from([0x2f, 0xff, 0x0a]), join(tree, 'link-to-bytes'));
  execFileSync('mkfifo', [join(tree, 'pipe')]);
  ['0000', '0644', '1777', '2755', '4755', '6711'].forEach((mode) => {
    writeFileSync(join(tree, `mode-${mode}`), mode);
    chmodSync(join(tree, `mode-${mode}`), Number.parseInt(mode, 8));
  });
  const times = [
    '@0',
    '@1',
    '@1700000000.000000001',
    '@1700000000.999999999',
    '@-1.5',
    '@4294967296.5',
    '@8000000000',
  ];
  times.forEach((time, index) => {
    writeFileSync(join(tree, `time-${index}`), '');
    execFileSync('touch', ['-d', time, join(tree, `time-${index}`)]);
  });
  execFileSync('touch', ['-h', '-d', '@12345.678', join(tree, 'link')]);
  setXattrs(tree);
  if (isRoot) makeNodes(tree);
}

function setXattrs(tree: string): void {
  const set = (file: string, name: string, value: string): void => {
    execFileSync('setfattr', ['-n', name, '-v', value, join(tree, file)]);
  };
  writeFileSync(join(tree, 'xattrs'), 'x'.repeat(500));
  for (let index = 0; index < 10; index++) set('xattrs', `user.number-${index}`, 'v'.repeat(index * 10));
  set('xattrs', 'user.bytes', '0x00ff0a5c');
  set('many', 'user.shared', 'the same value in two places');
  set('size-65', 'user.shared', 'the same value in two places');
  if (!isRoot) return;
  set('xattrs', 'trusted.some', 'thing');
  set('xattrs', 'security.capability', '0x0100000200200000000000000000000000000000');
  set('many', 'trusted.overlay.opaque', 'y');
  set('size-100', 'trusted.overlay.redirect', '/elsewhere');
  execFileSync('setfacl', ['-m', 'u:1234:r-x', join(tree, 'size-1')]);
  execFileSync('setfacl', ['-d', '-m', 'g:1234:rwx', join(tree, 'many')]);
}

function makeNodes(tree: string): void {
  mkdirSync(join(tree, 'devices'));
  const nodes = [
    ['null', 'c', '1', '3'],
    ['whiteout', 'c', '0', '0'],
    ['large', 'c', '511', '1048575'],
    ['disk', 'b', '8', '17'],
  ] as const;
  for (const [name, ...rest] of nodes) execFileSync('mknod', [join(tree, 'devices', name), ...rest]);
  execFileSync('mknod', [join(tree, 'whiteout'), 'c', '0', '0']);
  writeFileSync(join(tree, 'owned'), 'owned');
  execFileSync('chown', ['4294967294:65536', join(tree, 'owned')]);
  execFileSync('chown', ['-h', '1000:1000', join(tree, 'link')]);
}

describe.skipIf(needs('interop', available, sidMissing))('beside mkcomposefs', () => {
  test.each(versions.map((options) => [Object.values(options).join(' to '), options] as const))(
    'a tree of everything, versions %s',
    async (_, options) => {
      const tree = join(folder, `tree-${options.minVersion}-${options.maxVersion}`);
      makeTree(tree);
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(join(tree, 'socket'), resolve));
      try {
        const ours = await build(tree, 'ours', options);
        expect(same(ours.image, theirs(tree, options, `--digest-store=${folder}/theirs`))).toBe(true);
        const objects = readdirSync(join(folder, 'theirs'), { recursive: true, encoding: 'utf8' }).sort();
        expect(readdirSync(join(folder, 'ours'), { recursive: true, encoding: 'utf8' }).sort()).toEqual(
          objects,
        );
      } finally {
        server.close();
      }
    },
  );

  const machine = [
    '/usr/lib/x86_64-linux-gnu/perl-base',
    '/usr/share/perl5',
    '/usr/share/terminfo',
    '/etc/ssl',
  ];
  const real = ['node_modules/typescript', ...machine.filter((path) => existsSync(path))];
  test.each(real)('%s', async (path) => {
    const source = resolve(import.meta.dirname, '../..', path);
    for (const options of versions) {
      const ours = await build(source, 'real', options);
      expect(same(ours.image, theirs(source, options))).toBe(true);
    }
  });

  test.each([
    ['--skip-devices', { skipDevices: true }],
    ['--skip-xattrs', { xattrs: 'none' }],
    ['--user-xattrs', { xattrs: 'user' }],
    ['--use-epoch', { useEpoch: true }],
  ] as const)('%s', async (flag, option) => {
    const tree = join(folder, `tree${flag}`);
    makeTree(tree);
    for (const options of versions) {
      const ours = await build(tree, 'options', { ...options, ...option });
      expect(same(ours.image, theirs(tree, options, flag))).toBe(true);
    }
  });

  test('--print-digest-only, with hashing alone', async () => {
    const tree = join(folder, 'measured');
    makeTree(tree);
    for (const options of versions) {
      const bounds = [`--min-version=${options.minVersion}`, `--max-version=${options.maxVersion}`];
      const { digest } = await measureDirectory({ source: tree, ...options });
      expect(`${digest}\n`).toBe(
        `sha256:${run('mkcomposefs', '--print-digest-only', ...bounds, tree).toString()}`,
      );
    }
  });

  test('more files than one thread takes, on several', async () => {
    const tree = join(folder, 'threads');
    mkdirSync(tree);
    for (let index = 0; index < 1500; index++)
      writeFileSync(join(tree, `file-${index}`), `${index} `.repeat(20 + (index % 700)));
    const [options] = versions;
    if (options === undefined) throw new Error('no version');
    const ours = await build(tree, 'on-threads', { ...options, threads: 3 });
    const expected = theirs(tree, options, `--digest-store=${folder}/theirs-on-threads`);
    expect(same(ours.image, expected)).toBe(true);
    const contents = (store: string): string[] =>
      readdirSync(join(folder, store), { recursive: true, encoding: 'utf8' }).sort();
    expect(contents('on-threads')).toEqual(contents('theirs-on-threads'));
  });

  test('an empty directory', async () => {
    const tree = join(folder, 'empty');
    mkdirSync(tree);
    for (const options of versions)
      expect(same((await build(tree, 'ours', options)).image, theirs(tree, options))).toBe(true);
  });

  test('hard links, which mkcomposefs knows from a dump only', async () => {
    const tree = join(folder, 'links');
    mkdirSync(join(tree, 'b', 'c'), { recursive: true });
    writeFileSync(join(tree, 'z'), 'large'.repeat(100));
    linkSync(join(tree, 'z'), join(tree, 'b', 'c', 'y'));
    linkSync(join(tree, 'z'), join(tree, 'x'));
    symlinkSync('target', join(tree, 'b', 'link'));
    linkSync(join(tree, 'b', 'link'), join(tree, 'a-link'));
    for (const options of versions) {
      const { image } = await build(tree, 'ours', options);
      const dump = join(folder, 'links.dump');
      writeFileSync(dump, formatDump(readTree(image)));
      expect(same(image, theirs(dump, options, '--from-file'))).toBe(true);
      writeFileSync(join(folder, 'links.image'), image);
      expect(run('composefs-info', 'dump', join(folder, 'links.image')).equals(readFileSync(dump))).toBe(
        true,
      );
    }
  });
});
