import type { Command } from 'commander';

import { dumpImage } from '../../composefs/dump-image.ts';
import { readTree } from '../../composefs/read.ts';
import { printJson } from '../output.ts';
import { describeInode } from './describe-inode.ts';
import { explained } from './explained.ts';
import { readImageOfFiles } from './read-image.ts';
import { walkTree } from './walk-tree.ts';

/** Adds `dump IMAGE`. */
export function addDumpCommand(program: Command): void {
  program
    .command('dump')
    .summary('print an image as a composefs dump')
    .description('Prints an image as a composefs dump, the text that "cfs-mountctl build --from-file" reads.')
    .argument('<IMAGE>', 'the image')
    .option('--json', 'print as JSON')
    .action((image: string, options: { json?: true }) => runDump(image, options));
}

async function runDump(path: string, options: { readonly json?: true }): Promise<void> {
  const image = await explained(path, () => readImageOfFiles(path));
  if (options.json === true) {
    const tree = await explained(path, () => readTree(image));
    printJson([...walkTree(tree)].map(describeInode));
  } else process.stdout.write(await explained(path, () => dumpImage(image)));
}
