import type { Command } from 'commander';

import { scanImage } from '../../composefs/scan.ts';
import { ObjectStore } from '../../store/objects.ts';
import { CommandError } from '../command-error.ts';
import { printJson } from '../output.ts';
import { explained } from './explained.ts';
import { printable } from './printable.ts';
import { readImageOfFiles } from './read-image.ts';
import { printLines } from './print-lines.ts';

interface MissingCommandOptions {
  readonly store: readonly string[];
  readonly json?: true;
}

/** Adds `missing IMAGE --store DIR…`. */
export function addMissingCommand(program: Command): void {
  program
    .command('missing')
    .summary('list the objects that stores lack for an image')
    .description(
      'Lists the objects that an image needs and none of the stores has; prints nothing where all are there, and exits 1 where ' +
        'one is missing.',
    )
    .argument('<IMAGE>', 'the image')
    .requiredOption('--store <DIR...>', 'where to look')
    .option('--json', 'print as JSON')
    .action((image: string, options: MissingCommandOptions) => runMissing(image, options));
}

async function runMissing(path: string, options: MissingCommandOptions): Promise<void> {
  let missing = [...(await explained(path, () => scanImage(readImageOfFiles(path)))).objects];
  for (const store of options.store)
    missing = await explained(store, () => ObjectStore.open(store).missing(missing));
  const lines = missing.map(printable).sort();
  if (options.json === true) printJson(lines);
  else printLines(lines);
  if (lines.length > 0)
    throw new CommandError(
      `${path}: ${lines.length === 1 ? 'an object is' : `${lines.length} objects are`} missing`,
    );
}
