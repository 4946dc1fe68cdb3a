import { closeSync, fstatSync } from 'node:fs';
import type { Command } from 'commander';

import type { Digest } from '../../base/digest.ts';
import { digestHex } from '../../base/digest.ts';
import { measureContent } from '../../store/content.ts';
import { openRegular } from '../../store/objects.ts';
import { print, printJson } from '../output.ts';
import { eachFile } from './each-file.ts';
import { Progress } from './progress.ts';

interface DigestCommandOptions {
  readonly json?: true;
  readonly statement?: true;
}

/** Adds `digest FILE…`. */
export function addDigestCommand(program: Command): void {
  program
    .command('digest')
    .summary('print the fs-verity digests of files')
    .description(
      'Prints the fs-verity digests of files (SHA-256, blocks of 4096 bytes, no salt), which name images and objects.',
    )
    .argument('<FILE...>', 'the files')
    .option('--statement', 'print for each the one line that is signed, fsverity-sha256-12:HEX')
    .option('--json', 'print as JSON')
    .action((files: string[], options: DigestCommandOptions) => runDigest(files, options));
}

async function runDigest(files: readonly string[], options: DigestCommandOptions): Promise<void> {
  const results: { file: string; digest: Digest }[] = [];
  await eachFile(
    files,
    async (file) => {
      const digest = await fileDigest(file);
      results.push({ file, digest });
      if (options.json !== true) print(formatted(digest, file, options));
    },
    () => {
      if (options.json === true) printJson(results);
    },
  );
}

function formatted(digest: Digest, file: string, options: DigestCommandOptions): string {
  return options.statement === true ? `fsverity-sha256-12:${digestHex(digest)}` : `${digest}  ${file}`;
}

async function fileDigest(file: string): Promise<Digest> {
  const fd = openRegular(file);
  using progress = new Progress();
  try {
    const { size } = fstatSync(fd);
    const measured = await measureContent(fd, size, (bytes) => {
      progress.showPart(bytes, size);
    });
    return measured.digest;
  } finally {
    closeSync(fd);
  }
}
