import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { checkStore } from '../../src/store/check-store.ts';
import { isRoot, needs } from '../support/needs.ts';
import { Random } from '../support/random.ts';

// CFS_KILLS says how many moments of each work; CFS_FUZZ_SEED which.
const kills = Number(process.env['CFS_KILLS'] ?? '7');
const program = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');
const files = 260;
const timeout = 180_000 + kills * 3000;

let folder: string;
let source: string;
let full: string;
let image: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-killed-'));
  [source, full, image] = [join(folder, 'source'), join(folder, 'full'), join(folder, 'image.cfs')];
  mkdirSync(source);
  for (let index = 0; index < files; index++)
    writeFileSync(join(source, `file-${index}`), `${index} `.repeat(30 + index * 7));
  // An image of half of the files, so that the other half is garbage.
  const half = Array.from({ length: files / 2 }, (_, index) => `file-${index}`);
  mountctl('build', source, '--store', full, '-o', join(folder, 'whole'));
  mountctl('build', source, '--store', full, '-o', image, '--exclude', ...half);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function mountctl(...parameters: readonly string[]): string {
  return execFileSync(process.execPath, [program, ...parameters], { encoding: 'utf8' });
}

/** Runs the tool and kills it after so long, unless it has ended by then. */
async function killed(milliseconds: number, parameters: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [program, ...parameters], { stdio: 'ignore' });
  const ended = new Promise<void>((done, failed) => {
    child.on('error', failed);
    child.on('close', () => {
      done();
    });
  });
  await Promise.race([ended, setTimeout(milliseconds, undefined, { ref: false })]);
  child.kill('SIGKILL');
  await ended;
}

interface Work {
  readonly name: string;
  /** What is in the store before. */
  readonly begin: (store: string) => void;
  readonly parameters: (store: string, output: string) => readonly string[];
}

const empty: Work['begin'] = (store) => {
  mkdirSync(store);
};

const works: readonly Work[] = [
  {
    name: 'build',
    begin: empty,
    parameters: (store, output) => ['build', source, '--store', store, '-o', output, '--threads', '2'],
  },
  {
    name: 'store add',
    begin: empty,
    parameters: (store) => ['store', 'add', store, ...readdirSync(source).map((name) => join(source, name))],
  },
  {
    name: 'store gc',
    begin: (store) => {
      cpSync(full, store, { recursive: true });
    },
    parameters: (store) => ['store', 'gc', store, '--unknown-mounts', 'ignore', '--image', image],
  },
];

test.each(works)(
  `a store is whole whenever $name is killed (${kills} moments)`,
  { timeout },
  async ({ name, begin, parameters }) => {
    const place = mkdtempSync(join(folder, 'moments-'));
    const trial = join(place, 'trial');
    begin(trial);
    const begun = performance.now();
    mountctl(...parameters(trial, join(place, 'trial-image')));
    const duration = performance.now() - begun;
    const random = new Random(name.length);
    for (let moment = 0; moment < kills; moment++) {
      const store = join(place, String(moment));
      const output = join(place, `image-${moment}`);
      begin(store);
      await killed((duration * (5 + random.below(95))) / 100, parameters(store, output));
      expect((await checkStore(store)).problems).toEqual([]);
      // An image is there whole, with everything that it needs, or not at all.
      if (existsSync(output)) expect(mountctl('missing', output, '--store', store)).toBe('');
      expect(mountctl('missing', image, '--store', name === 'store gc' ? store : full)).toBe('');
      // What is left does not stand in the way of doing it again.
      mountctl(...parameters(store, output));
      expect((await checkStore(store)).problems).toEqual([]);
      expect(
        readdirSync(store, { recursive: true }).filter((path) => String(path).includes('.tmp-')),
      ).toEqual([]);
      rmSync(store, { recursive: true });
    }
  },
);

test.skipIf(needs('interop', isRoot, 'only root can install'))(
  `what is installed is there whole, with its own signature or none, whenever install is killed (${kills} moments)`,
  { timeout },
  async () => {
    const [older, newer] = [Buffer.from('of the older image'), Buffer.from('of the newer image')];
    writeFileSync(`${image}.sig`, newer);
    const place = mkdtempSync(join(folder, 'installs-'));
    const install = (store: string, into: string): readonly string[] => [
      'install',
      image,
      '--from',
      full,
      '--into',
      into,
      '--store',
      store,
      '--no-verify',
    ];
    const begun = performance.now();
    mountctl(...install(join(place, 'trial'), join(place, 'trial-images')));
    const duration = performance.now() - begun;
    const random = new Random(1);
    for (let moment = 0; moment < kills; moment++) {
      const [store, into] = [join(place, `store-${moment}`), join(place, `images-${moment}`)];
      mkdirSync(into);
      writeFileSync(join(into, 'image.cfs'), 'the older image');
      writeFileSync(join(into, 'image.cfs.sig'), older);
      await killed((duration * (5 + random.below(95))) / 100, install(store, into));
      const now = readFileSync(join(into, 'image.cfs'));
      if (now.toString('latin1') !== 'the older image') {
        expect(now.equals(readFileSync(image))).toBe(true);
        expect(readFileSync(join(into, 'image.cfs.sig')).equals(newer)).toBe(true);
        expect(mountctl('missing', image, '--store', store)).toBe('');
      }
      if (existsSync(store)) expect((await checkStore(store)).problems).toEqual([]);
      mountctl(...install(store, into));
      expect(readFileSync(join(into, 'image.cfs')).equals(readFileSync(image))).toBe(true);
      rmSync(store, { recursive: true });
    }
  },
);
