import type { Command } from 'commander';
import { Option } from 'commander';

import type { Digest } from '../../base/digest.ts';
import type { StoreReport } from '../../store/check-store.ts';
import { checkStore } from '../../store/check-store.ts';
import type { Garbage } from '../../store/collect-garbage.ts';
import { collectGarbage } from '../../store/collect-garbage.ts';
import { HandedOutImages } from '../../store/handed-out.ts';
import { mountedImages } from '../../store/mounted-images.ts';
import type { ImageObjects } from '../../store/needed-objects.ts';
import { objectsOf } from '../../store/needed-objects.ts';
import { ObjectStore, StoreError } from '../../store/objects.ts';
import { lockStore } from '../../store/store-lock.ts';
import { CommandError } from '../command-error.ts';
import { print, printJson } from '../output.ts';
import { eachFile } from './each-file.ts';
import { explained } from './explained.ts';
import { formatSize, Progress } from './progress.ts';
import { readImage } from './read-image.ts';
import { printLines } from './print-lines.ts';

interface OutputOptions {
  readonly json?: true;
  readonly quiet?: true;
}

interface CollectCommandOptions extends OutputOptions {
  readonly image: readonly string[];
  readonly state: string;
  readonly unknownMounts: 'refuse' | 'ignore';
  readonly dryRun?: true;
}

/** Adds `store add DIR FILE…`, `store check DIR` and `store gc DIR --image IMAGE…`. */
export function addStoreCommand(program: Command): void {
  const store = program
    .command('store')
    .summary('work on a store of objects')
    .description('Works on a store: a directory of files named by their fs-verity digests.');
  store
    .command('add')
    .summary('add files to a store')
    .description('Adds the contents of files to a store, and prints their digests.')
    .argument('<DIR>', 'the store; made where it is missing')
    .argument('<FILE...>', 'the files')
    .option('--json', 'print as JSON')
    .option('--quiet', 'show no progress')
    .action((path: string, files: string[], options: OutputOptions) => runAdd(path, files, options));
  store
    .command('check')
    .summary('check every object of a store')
    .description(
      'Reads every object of a store and compares its digest with its name; exits 1 where one is damaged.',
    )
    .argument('<DIR>', 'the store')
    .option('--json', 'print as JSON')
    .option('--quiet', 'show no progress')
    .action((path: string, options: OutputOptions) => runCheck(path, options));
  store
    .command('gc')
    .summary('remove objects that no image needs')
    .description(
      'Removes the objects that none of the images needs, no image that is mounted in any mount namespace, and none that ' +
        'the service handed out in the last hour. Not while objects are added to the store.',
    )
    .argument('<DIR>', 'the store')
    .requiredOption('--image <IMAGE...>', 'every image that is still to be mounted with this store')
    .option(
      '--state <DIR>',
      'the state folder of the service, which knows what it handed out',
      '/var/lib/cfs-mountd',
    )
    .addOption(
      new Option(
        '--unknown-mounts <HOW>',
        'what to do about mounted images that neither --image nor the state knows the objects of',
      )
        .choices(['refuse', 'ignore'])
        .default('refuse'),
    )
    .option('--dry-run', 'say what would be removed, and remove nothing')
    .option('--json', 'print as JSON')
    .option('--quiet', 'show no progress')
    .action((path: string, options: CollectCommandOptions) => runCollect(path, options));
}

async function runAdd(path: string, files: readonly string[], options: OutputOptions): Promise<void> {
  const store = await explained(path, () => ObjectStore.create(path));
  const results: { file: string; digest: Digest; new: boolean }[] = [];
  const lock = await explained(path, () => lockStore(path, 'add'));
  using progress = new Progress({ quiet: options.quiet === true });
  const add = async (file: string): Promise<void> => {
    const { digest, isNew } = await store.addFile(file);
    results.push({ file, digest, new: isNew });
    progress.show(() => `${results.length} of ${files.length} files`);
  };
  try {
    await eachFile(files, add, async () => {
      await store.sync();
      if (options.json === true) printJson(results);
      else printLines(results.map(({ file, digest }) => `${digest}  ${file}`));
    });
  } finally {
    lock.close();
  }
}

async function runCheck(path: string, options: OutputOptions): Promise<void> {
  const report = await checkWithProgress(path, options);
  const { objects, verityObjects, bytes, problems } = report;
  if (options.json === true) printJson({ store: path, ...report });
  else {
    printLines(problems.map(({ path: where, problem }) => `${where}: ${problem}`));
    print(`${objects} objects are sound, ${formatSize(bytes)}; ${verityObjects} of them have fs-verity`);
  }
  if (problems.length > 0)
    throw new CommandError(
      `${path}: ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}`,
    );
}

async function checkWithProgress(path: string, options: OutputOptions): Promise<StoreReport> {
  using progress = new Progress({ quiet: options.quiet === true });
  return await explained(path, () =>
    checkStore(path, ({ objects, bytes }) => {
      progress.show(() => `${objects} objects, ${formatSize(bytes)}`);
    }),
  );
}

async function runCollect(path: string, options: CollectCommandOptions): Promise<void> {
  const images: ImageObjects[] = [];
  for (const image of options.image) images.push(await explained(image, () => objectsOf(readImage(image))));
  const dryRun = options.dryRun === true;
  const garbage = await collectWithProgress(path, images, options);
  if (options.json === true) printJson({ store: path, dryRun, ...garbage });
  else {
    printLines(garbage.removed);
    const verb = dryRun ? 'would be removed' : 'removed';
    print(`${garbage.removed.length} ${verb}, ${formatSize(garbage.bytes)}; ${garbage.kept} kept`);
  }
}

async function collectWithProgress(
  path: string,
  images: readonly ImageObjects[],
  options: CollectCommandOptions,
): Promise<Garbage> {
  using progress = new Progress({ quiet: options.quiet === true });
  return await explained(path, () => {
    ObjectStore.open(path);
    return collectGarbage(path, {
      images,
      handedOut: new HandedOutImages(options.state),
      mounted: () => mountedFor(options.unknownMounts),
      now: Date.now(),
      unknownMounts: options.unknownMounts,
      dryRun: options.dryRun === true,
      onProgress: (looked, garbage) => {
        progress.show(() => `${looked} objects, ${garbage} of them garbage`);
      },
    });
  });
}

/** The mounted images, as far as this process may see them where it does not matter that some are unknown. */
function mountedFor(unknown: CollectCommandOptions['unknownMounts']): ReadonlySet<Digest> {
  try {
    return mountedImages();
  } catch (error) {
    if (unknown === 'ignore' && error instanceof StoreError) return new Set();
    throw error;
  }
}
