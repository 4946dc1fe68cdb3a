import type { Command } from 'commander';

import { scanImage } from '../../composefs/scan.ts';
import { printJson } from '../output.ts';
import { explained } from './explained.ts';
import { printable } from './printable.ts';
import { readImageOfFiles } from './read-image.ts';
import { printLines } from './print-lines.ts';

/** Adds `objects IMAGE`. */
export function addObjectsCommand(program: Command): void {
  program
    .command('objects')
    .summary('list the objects that an image needs')
    .description('Lists the objects that an image needs, by their paths in a store.')
    .argument('<IMAGE>', 'the image')
    .option('--json', 'print as JSON')
    .action((image: string, options: { json?: true }) => runObjects(image, options));
}

async function runObjects(path: string, options: { readonly json?: true }): Promise<void> {
  const scan = await explained(path, () => scanImage(readImageOfFiles(path)));
  const found = scan.objects.map((object, index) => {
    const digest = scan.objectDigests[index];
    return { path: printable(object), ...(digest === undefined ? {} : { digest }) };
  });
  found.sort((a, b) => (a.path < b.path ? -1 : 1));
  if (options.json === true) printJson(found);
  else printLines(found.map((object) => object.path));
}
