import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { formatDump } from '../support/format-dump.ts';
import { dumpImage } from '../../src/composefs/dump-image.ts';
import type { FormatVersion } from '../../src/composefs/write.ts';
import { buildImage } from '../../src/store/build.ts';
import { measureContent } from '../../src/store/content.ts';
import { ObjectStore } from '../../src/store/objects.ts';
import { scanDirectory } from '../../src/store/scan-directory.ts';
import { isRoot, needs } from '../support/needs.ts';
import { randomTree } from '../support/random-tree.ts';
import { sid, sidMissing } from '../support/sid.ts';

// Trees are the same in each run; CFS_TREES says how many, CFS_FUZZ_SEED which.
const trees = Number(process.env['CFS_TREES'] ?? '100');
const seen = [1, 2, 3, 4, 5];
const available = isRoot && sid('mkcomposefs') !== undefined && sid('fsck.erofs') !== undefined;

let folder: string;

/** Below a filesystem that has all kinds of files and attributes, and from which EROFS mounts files. */
beforeAll(() => {
  folder = mkdtempSync('/var/tmp/cfs-random-trees-');
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function run(program: string, ...parameters: readonly string[]): Buffer {
  const [command, ...rest] = sid(program, ...parameters) ?? [''];
  return execFileSync(command, rest, { maxBuffer: 2 ** 30 });
}

/** Makes the trees of these seeds, and answers with their paths. */
function makeTrees(name: string, seeds: readonly number[], devices: boolean): string[] {
  // In a folder of its own: a test that is tried again makes them again.
  const place = mkdtempSync(join(folder, `${name}-`));
  const made = seeds.map((seed) => ({
    path: join(place, String(seed)),
    entries: randomTree(seed, { devices, hardLinks: seed % 2 === 0 || !devices }),
  }));
  execFileSync('python3', [resolve(import.meta.dirname, '../support/make-trees.py')], {
    input: made.map((tree) => JSON.stringify(tree)).join('\n'),
  });
  return made.map(({ path }) => path);
}

function firstDifference(ours: Uint8Array, theirs: Uint8Array): string | undefined {
  if (Buffer.compare(ours, theirs) === 0) return undefined;
  const at = ours.findIndex((byte, index) => byte !== theirs[index]);
  return `byte ${at} of ${ours.length} and ${theirs.length}`;
}

/** What is wrong with the image of the tree at `path`. */
async function faults(path: string, hardLinks: boolean, formatVersion: FormatVersion): Promise<string[]> {
  const [image, dump, output] = [join(folder, 'image'), join(folder, 'dump'), join(folder, 'theirs')];
  const bounds = { minVersion: formatVersion, maxVersion: formatVersion };
  const ours = await buildImage({
    source: path,
    store: ObjectStore.create(join(folder, 'store')),
    ...bounds,
  });
  const ourDump = dumpImage(ours.image);
  writeFileSync(image, ours.image);
  writeFileSync(dump, ourDump);
  // mkcomposefs takes hard links in a directory for files of their own; from a dump it makes links of them.
  const options = [`--min-version=${formatVersion}`, `--max-version=${formatVersion}`];
  run('mkcomposefs', ...options, ...(hardLinks ? ['--from-file', dump] : [path]), output);
  const [fsck, ...parameters] = sid('fsck.erofs', image) ?? [''];
  const checked = spawnSync(fsck, parameters, { encoding: 'utf8' });
  const found = [
    ['mkcomposefs', firstDifference(ours.image, readFileSync(output))],
    ['composefs-info dump', firstDifference(ourDump, run('composefs-info', 'dump', image))],
    ['fsck.erofs', checked.status === 0 ? undefined : `${checked.stdout}${checked.stderr}`],
  ];
  return found.flatMap(([what, fault]) =>
    fault === undefined ? [] : [`${path} ${formatVersion}: ${what}: ${fault}`],
  );
}

async function dumpOf(path: string): Promise<string> {
  const tree = await scanDirectory(path, { keep: (fd, size) => measureContent(fd, size) });
  const lines = Buffer.from(formatDump(tree)).toString('latin1').split('\n');
  // Each filesystem lists attributes in an order of its own.
  const sorted = lines
    .map((line) => line.split(' '))
    .map((fields) => [...fields.slice(0, 11), ...fields.slice(11).sort()]);
  return sorted.map((fields) => fields.join(' ')).join('\n');
}

describe.skipIf(needs('interop', available, `root; ${sidMissing}`))('random trees', () => {
  test.each([0, 1] as const)(`${trees} of them beside mkcomposefs, version %i`, async (formatVersion) => {
    const seeds = Array.from({ length: trees }, (_, index) => index);
    const found: string[] = [];
    for (const [seed, path] of makeTrees(`v${formatVersion}`, seeds, true).entries())
      found.push(...(await faults(path, seed % 2 === 0, formatVersion)));
    expect(found).toEqual([]);
  });

  test('seen through a mount they are what they were', async () => {
    const place = mkdtempSync(join(folder, 'mounts-'));
    const [lower, upper] = [join(place, 'lower'), join(place, 'upper')];
    const store = ObjectStore.create(join(place, 'store'));
    mkdirSync(lower);
    mkdirSync(upper);
    for (const [index, source] of makeTrees('seen', seen, false).entries()) {
      // Each in a file of its own: where another mount namespace still has the last one's mount, its superblock is taken again.
      const image = join(place, `image-${index}`);
      const built = await buildImage({ source, store, minVersion: 1, maxVersion: 1 });
      writeFileSync(image, built.image);
      execFileSync('mount', ['-t', 'erofs', '-o', 'ro', image, lower]);
      try {
        const options = `ro,metacopy=on,redirect_dir=on,lowerdir=${lower}::${store.path}`;
        execFileSync('mount', ['-t', 'overlay', '-o', options, 'random-tree', upper]);
        try {
          expect(await dumpOf(upper)).toBe(await dumpOf(source));
        } finally {
          execFileSync('umount', [upper]);
        }
      } finally {
        execFileSync('umount', [lower]);
      }
    }
  });
});
