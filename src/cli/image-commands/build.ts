import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';

import { parseDump } from '../../composefs/dump.ts';
import { scanImage } from '../../composefs/scan.ts';
import type { FormatVersion, WriteOptions } from '../../composefs/write.ts';
import type { BuiltImage, ImageOptions, TreeOptions } from '../../store/build.ts';
import { buildImage, formatImage, measureDirectory } from '../../store/build.ts';
import { ObjectStore } from '../../store/objects.ts';
import type { Owner } from '../../store/scan-directory.ts';
import { writeFileWhole } from '../../store/write-file-whole.ts';
import { CommandError } from '../command-error.ts';
import { print, warn } from '../output.ts';
import { explained } from './explained.ts';
import { formatSize, Progress } from './progress.ts';

interface BuildCommandOptions {
  readonly output?: string;
  readonly printDigestOnly?: true;
  readonly store?: string;
  readonly formatVersion?: FormatVersion;
  readonly minVersion?: FormatVersion;
  readonly maxVersion?: FormatVersion;
  readonly fromFile?: true;
  readonly owner?: Owner;
  readonly skipDevices?: true;
  readonly skipXattrs?: true;
  readonly userXattrs?: true;
  readonly useEpoch?: true;
  readonly exclude?: readonly string[];
  readonly threads?: number;
  readonly quiet?: true;
}

/** Adds `build SOURCE --store DIR --output IMAGE …`. */
export function addBuildCommand(program: Command): void {
  program
    .command('build')
    .summary('build a composefs image')
    .description(
      'Builds a composefs image from a directory, puts the contents of its files into a store, and prints the image’s ' +
        'digest. The image is the same, byte for byte, as mkcomposefs makes; only hard links are kept as such.',
    )
    .argument('<SOURCE>', 'a directory; with --from-file a composefs dump, or - for standard input')
    .option('-o, --output <IMAGE>', 'where to write the image')
    .addOption(
      new Option(
        '--print-digest-only',
        'write no image, and need no store: only say which digest it would have',
      ).conflicts('output'),
    )
    .option('--store <DIR>', 'where the contents of files go, by digest; made where it is missing')
    .addOption(
      version('--format-version <N>', 'the format version, 0 or 1 (default: 1)').conflicts([
        'minVersion',
        'maxVersion',
      ]),
    )
    .addOption(
      version(
        '--min-version <N>',
        'the lowest format version to choose from (default with --max-version: 0)',
      ),
    )
    .addOption(
      version(
        '--max-version <N>',
        'the highest format version to choose from (default with --min-version: 1)',
      ),
    )
    .option('--from-file', 'the source is a dump, as "cfs-mountctl dump" and composefs-info print')
    .option('--owner <UID:GID>', 'let everything belong to this user and group', parseOwner)
    .option('--skip-devices', 'leave out device nodes, whiteouts among them')
    .option('--skip-xattrs', 'leave out all extended attributes')
    .addOption(
      new Option('--user-xattrs', 'leave out extended attributes other than user.*').conflicts('skipXattrs'),
    )
    .option('--use-epoch', 'let every time be the start of 1970')
    .option('--exclude <PATH...>', 'leave out what is at these paths below the source, with all below them')
    .option(
      '--threads <N>',
      'how many threads hash and copy files (default: one per processor)',
      parseThreads,
    )
    .option('--quiet', 'show no progress')
    .action((source: string, options: BuildCommandOptions) => runBuild(source, options));
}

async function runBuild(source: string, options: BuildCommandOptions): Promise<void> {
  const versions = chooseVersions(options);
  const { output } = options;
  if (output !== undefined)
    await explained(output, () => {
      checkOutput(output);
    });
  else if (options.printDigestOnly !== true)
    throw new CommandError('--output is needed, or --print-digest-only');
  const built = await (options.fromFile === true
    ? buildFromDump(source, options, versions)
    : buildFromDirectory(source, options, versions));
  if (output !== undefined)
    await explained(output, () => writeFileWhole(output, built.image, { verity: false }));
  print(built.digest);
}

async function buildFromDirectory(
  source: string,
  options: BuildCommandOptions,
  versions: WriteOptions,
): Promise<BuiltImage> {
  const { store: path, threads = availableParallelism() } = options;
  using progress = new Progress({ quiet: options.quiet === true });
  const build: ImageOptions = {
    source,
    ...versions,
    ...treeOptions(options),
    onProgress: ({ files, newFiles, bytes }) => {
      progress.show(() => `${files} files, ${formatSize(bytes)}; ${newFiles} of them new`);
    },
  };
  if (path !== undefined)
    return await explained(source, () => buildImage({ ...build, store: ObjectStore.create(path), threads }));
  if (options.printDigestOnly === true) return await explained(source, () => measureDirectory(build));
  throw new CommandError('--store is needed: somewhere the contents of the files must go');
}

async function buildFromDump(
  source: string,
  options: BuildCommandOptions,
  versions: WriteOptions,
): Promise<BuiltImage> {
  const flag = directoryFlags.find(([name]) => options[name] !== undefined)?.[1];
  if (flag !== undefined)
    throw new CommandError(`${flag} does not go with --from-file: a dump says what the image holds`);
  const about = source === '-' ? 'standard input' : source;
  const built = await explained(about, () =>
    formatImage(parseDump(readFileSync(source === '-' ? 0 : source)), versions),
  );
  const { store: path } = options;
  if (path !== undefined) {
    const { objects } = scanImage(built.image);
    const missing = await explained(path, () => ObjectStore.open(path).missing(objects));
    if (missing.length > 0)
      warn(`${path}: ${missing.length} of ${objects.length} objects are not in the store`);
  }
  return built;
}

/** The options that say how a directory is read. */
const directoryFlags: readonly (readonly [keyof BuildCommandOptions, string])[] = [
  ['owner', '--owner'],
  ['skipDevices', '--skip-devices'],
  ['skipXattrs', '--skip-xattrs'],
  ['userXattrs', '--user-xattrs'],
  ['useEpoch', '--use-epoch'],
  ['exclude', '--exclude'],
  ['threads', '--threads'],
];

function treeOptions(options: BuildCommandOptions): TreeOptions {
  const { owner, exclude } = options;
  const user = options.userXattrs === true ? 'user' : 'all';
  return {
    ...(owner === undefined ? {} : { owner }),
    skipDevices: options.skipDevices === true,
    xattrs: options.skipXattrs === true ? 'none' : user,
    useEpoch: options.useEpoch === true,
    ...(exclude === undefined ? {} : { exclude: new Set(exclude.map(excludedPath)) }),
  };
}

/** A path below the source as the scan knows it: `./a//b/` is `a/b`. */
function excludedPath(text: string): string {
  const segments = text.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (segments.length === 0 || segments.includes('..'))
    throw new CommandError(`--exclude ${text}: a path below the source, without ".."`);
  return Buffer.from(segments.join('/')).toString('latin1');
}

/** Throws before a long build what would only come out after it; and /dev/null is not to be replaced by an image. */
function checkOutput(path: string): void {
  accessSync(dirname(path), constants.W_OK);
  const status = statSync(path, { throwIfNoEntry: false });
  if (status !== undefined && !status.isFile())
    throw new CommandError(`${path}: it exists and is no regular file`);
}

function chooseVersions(options: BuildCommandOptions): WriteOptions {
  const bounded = options.minVersion !== undefined || options.maxVersion !== undefined;
  const chosen = options.formatVersion ?? (bounded ? undefined : 1);
  const minVersion = chosen ?? options.minVersion ?? 0;
  const maxVersion = chosen ?? options.maxVersion ?? 1;
  if (minVersion > maxVersion) throw new CommandError('--min-version is higher than --max-version');
  return { minVersion, maxVersion };
}

function version(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text): FormatVersion => {
    if (text === '0') return 0;
    if (text === '1') return 1;
    throw new InvalidArgumentError('The format version is 0 or 1.');
  });
}

const threadsMax = 256;

function parseThreads(text: string): number {
  const threads = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (threads < 1 || threads > threadsMax)
    throw new InvalidArgumentError(`A number of threads is 1 to ${threadsMax}.`);
  return threads;
}

/** The highest ID that belongs to somebody: 2^32 - 1 means "none" to the kernel. */
const idMax = 2 ** 32 - 2;

function parseOwner(text: string): Owner {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  const [uid, gid] = [Number(match?.[1] ?? -1), Number(match?.[2] ?? -1)];
  if (uid < 0 || gid < 0 || uid > idMax || gid > idMax)
    throw new InvalidArgumentError('An owner is UID:GID, two numbers.');
  return { uid, gid };
}
