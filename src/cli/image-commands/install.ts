import { basename } from 'node:path';
import type { Command } from 'commander';

import { imageSuffixes, nameOfImage } from '../../policy/image-names.ts';
import { installImage } from '../../store/install-image.ts';
import { ObjectStore } from '../../store/objects.ts';
import { print, warn } from '../output.ts';
import { explained } from './explained.ts';
import { Progress } from './progress.ts';

interface InstallCommandOptions {
  readonly from: string;
  readonly into: string;
  readonly store: string;
}

/** Adds `install IMAGE --from STORE --into DIRECTORY --store STORE`. */
export function addInstallCommand(program: Command): void {
  program
    .command('install')
    .summary('install an image, its signature and its objects')
    .description(
      'Copies an image, its signature (IMAGE.sig) and the objects it needs to where a policy looks for them, as root. Each ' +
        'object is checked by its digest, and everything gets fs-verity where the filesystem has it. The image comes last.',
    )
    .argument('<IMAGE>', 'the image')
    .requiredOption('--from <STORE>', 'where the objects are')
    .requiredOption('--into <DIR>', 'an image directory of the policy; made where it is missing')
    .requiredOption('--store <STORE>', 'where the objects go; made where it is missing')
    .action((image: string, options: InstallCommandOptions) => runInstall(image, options));
}

async function runInstall(image: string, options: InstallCommandOptions): Promise<void> {
  using progress = new Progress();
  const installed = await explained(image, () =>
    installImage({
      image,
      from: ObjectStore.open(options.from),
      into: options.into,
      store: ObjectStore.create(options.store),
      onProgress: (done, all) => {
        progress.show(() => `${done} of ${all} objects`);
      },
    }),
  );
  const file = basename(installed.image);
  if (nameOfImage(file) === undefined)
    warn(
      `${file}: the service finds no image of this name: it wants letters, digits and ._@+- with the suffix ${imageSuffixes.join(' or ')}`,
    );
  if (installed.signature === undefined)
    warn(`${image}.sig is not there: the image was installed without a signature`);
  print(`${installed.digest}  ${installed.image}`);
}
