import type { Command } from 'commander';
import { defaultSocketPath, type KeptMount } from '../../client/client.ts';
import { print, printJson } from '../output.ts';
import { withClient } from '../with-client.ts';

/** Adds `kept`. */
export function addKeptCommand(program: Command): void {
  program
    .command('kept')
    .summary('list the mounts that the service keeps to be cloned (root)')
    .description(
      'Lists the mounts that the service keeps, so that the next request for the same image gets a clone at once: the ' +
        'digest of the image, whose mounts share it, and for how long nobody has asked for it. Each goes by itself ' +
        'when it is not asked for, and by `drop`.',
    )
    .option('--socket <PATH>', "the service's socket", defaultSocketPath)
    .option('--json', 'print JSON')
    .action(kept);
}

async function kept(options: { socket: string; json?: true }): Promise<void> {
  const mounts = await withClient(options.socket, (client) => client.keptMounts());
  if (options.json === true) printJson({ mounts });
  else
    mounts.forEach((mount) => {
      print(keptLine(mount));
    });
}

function keptLine({ digest, user, layer, unusedMilliseconds }: KeptMount): string {
  const sharers = user === undefined ? 'shared by everyone' : `shared by the mounts of user ${user}`;
  const what = layer ? 'layer below its mounts' : sharers;
  return `${digest}  ${what}, unused for ${Math.floor(unusedMilliseconds / 1000)} s`;
}
