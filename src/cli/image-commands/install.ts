import { basename } from 'node:path';
import type { Command } from 'commander';

import { readTree } from '../../composefs/read.ts';
import { imageSuffixes, nameOfImage } from '../../policy/image-names.ts';
import {
  installImage,
  installWhole,
  ObjectsNotFound,
  type Installed,
  type InstallOptions,
} from '../../store/install-image.ts';
import { ObjectStore } from '../../store/objects.ts';
import { isScanned } from '../../trust/file-system.ts';
import { CommandError } from '../command-error.ts';
import { fileSystemOfImage } from '../file-system-of-image.ts';
import { print, warn } from '../output.ts';
import { checkSignature } from './check-signature.ts';
import { explained } from './explained.ts';
import { printable } from './printable.ts';
import { formatSize, Progress } from './progress.ts';
import { readImage } from './read-image.ts';
import { walkTree } from './walk-tree.ts';

interface InstallCommandOptions {
  readonly from?: string;
  readonly into: string;
  readonly store?: string;
  readonly policy?: string;
  /** False with --no-verify. */
  readonly verify: boolean;
  readonly quiet?: true;
}

/** How many of the files that are missing an error names. */
const missingNamedMax = 5;

/** Adds `install IMAGE --from STORE --into DIRECTORY --store STORE`. */
export function addInstallCommand(program: Command): void {
  program
    .command('install')
    .summary('install an image, its signature and its objects')
    .description(
      'Copies an image, its signature (IMAGE.sig) and the objects it needs to where a policy looks for them, as root. First ' +
        'the signature has to be one of this image, by a key of the policy where there is one, and no object may be missing. Each ' +
        'object is checked by its digest, and everything gets fs-verity where the filesystem has it. The image comes last. Of ' +
        'squashfs, ext4, xfs and btrfs images and disk images, which need no objects, --from and --store are not wanted.',
    )
    .argument('<IMAGE>', 'the image')
    .option('--from <STORE>', 'where the objects are')
    .requiredOption('--into <DIR>', 'an image directory of the policy; made where it is missing')
    .option('--store <STORE>', 'where the objects go; made where it is missing')
    .option('-p, --policy <DIR>', 'folder with policy.d and keys.d (default: those of the service, if any)')
    .option('--no-verify', 'take the signature as it is')
    .option('--quiet', 'show no progress')
    .action((image: string, options: InstallCommandOptions) => runInstall(image, options));
}

async function runInstall(image: string, options: InstallCommandOptions): Promise<void> {
  if (process.geteuid?.() !== 0)
    throw new CommandError('only root can install: the service takes no image that another user can change');
  const installed = await installWithProgress(image, options);
  const file = basename(installed.image);
  if (nameOfImage(file) === undefined)
    warn(
      `${file}: the service finds no image of this name: it wants letters, digits and ._@+- with the suffix ${imageSuffixes.join(' or ')}`,
    );
  if (installed.signature === undefined)
    warn(`${image}.sig is not there: the image was installed without a signature`);
  print(`${installed.digest}  ${installed.image}`);
}

async function installWithProgress(image: string, options: InstallCommandOptions): Promise<Installed> {
  using progress = new Progress({ quiet: options.quiet === true });
  const { into, verify, policy, from, store } = options;
  const check: InstallOptions['checkSignature'] = (path, signature, digest) => {
    checkSignature(path, signature, digest, policy);
  };
  const common = { image, into, ...(verify && { checkSignature: check }) };
  return await explained(image, async () => {
    const seen = fileSystemOfImage(image);
    if (seen !== undefined && !isScanned(seen)) {
      const onProgress = (done: number, all: number): void => {
        progress.show(() => `${formatSize(done)} of ${formatSize(all)}`);
      };
      return await installWhole({ ...common, onProgress });
    }
    if (from === undefined || store === undefined)
      throw new CommandError(
        '--from and --store are wanted: where the objects of the image are, and where they go',
      );
    try {
      return await installImage({
        ...common,
        from: ObjectStore.open(from),
        store: ObjectStore.create(store),
        onProgress: (done, all) => {
          progress.show(() => `${done} of ${all} objects`);
        },
      });
    } catch (error) {
      if (!(error instanceof ObjectsNotFound)) throw error;
      throw new CommandError(`${image}: ${error.message}: ${namesOf(image, error.objects)}`);
    }
  });
}

/** The first of the files whose content these objects are, and where a store would have it. */
function namesOf(image: string, objects: readonly string[]): string {
  const wanted = new Set(objects);
  const names: string[] = [];
  for (const { path, inode } of walkTree(readTree(readImage(image)))) {
    if (inode.type !== 'file' || inode.content.kind !== 'external') continue;
    const { path: object = '' } = inode.content;
    if (!wanted.delete(object)) continue;
    names.push(`${printable(path)} (${printable(object)})`);
    if (names.length === missingNamedMax) break;
  }
  return wanted.size === 0 ? names.join(', ') : `${names.join(', ')} and more`;
}
