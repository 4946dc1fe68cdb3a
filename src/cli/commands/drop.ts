import type { Command } from 'commander';
import { parseDigest } from '../../base/digest.ts';
import { defaultSocketPath } from '../../client/client.ts';
import { CommandError } from '../command-error.ts';
import { print } from '../output.ts';
import { withClient } from '../with-client.ts';

/** Adds `drop`. */
export function addDropCommand(program: Command): void {
  program
    .command('drop')
    .summary('make the service keep mounts no longer (root)')
    .description(
      'Makes the service give up the mounts that it keeps of the image DIGEST, or all: before the filesystem of a store ' +
        'or of images is unmounted, or to free memory. Mounts that were handed out live on, and hold what they need.',
    )
    .argument('[DIGEST]', 'sha256:HEX, as `kept` prints it')
    .option('--socket <PATH>', "the service's socket", defaultSocketPath)
    .action(drop);
}

async function drop(digest: string | undefined, options: { socket: string }): Promise<void> {
  if (digest !== undefined && parseDigest(digest) === undefined)
    throw new CommandError(`${digest}: not sha256: and 64 lower-case hexadecimal digits`);
  const dropped = await withClient(options.socket, (client) => client.drop(digest));
  print(dropped === 1 ? '1 mount dropped' : `${dropped} mounts dropped`);
}
