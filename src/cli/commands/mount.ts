import type { Command } from 'commander';
import { parseDelegatedOptions } from '../delegated-options.ts';
import { mountOptionsHelp } from '../mount-help.ts';
import { describeOutcome, mountImage } from '../mount-image.ts';
import { print } from '../output.ts';
import { collect } from '../usage.ts';

/** Adds `mount`. */
export function addMountCommand(program: Command): void {
  program
    .command('mount')
    .summary('have the service mount an image, and attach it')
    .description(
      'Has cfs-mountd verify and mount an image, and attaches it at DIR. Needs root of a mount namespace: run it ' +
        'within "podman unshare" or "unshare -rm". Exit codes are those of mount(8): 1 no permission, 2 the ' +
        'service cannot be reached, 32 the image was not mounted.',
    )
    .argument('<IMAGE>', 'a file, or name:NAME or sha256:HEX for an image that the administrator installed')
    .argument('<DIR>', 'where to attach it')
    .option<readonly string[]>('-o, --options <OPTIONS>', 'see below; repeatable', collect)
    .option('-N, --namespace <NAMESPACE>', 'attach in the mount namespace of this PID, or of this file')
    .option('-f, --fake', 'do everything but the mount')
    .option('-v, --verbose', 'say what was mounted, and by which rule')
    .addHelpText('after', `\n${mountOptionsHelp}`)
    .action(runMount);
}

async function runMount(
  image: string,
  directory: string,
  options: { options?: readonly string[]; namespace?: string; fake?: true; verbose?: true },
): Promise<void> {
  const job = {
    image,
    directory,
    options: parseDelegatedOptions(options.options ?? []),
    namespace: options.namespace,
    fake: options.fake === true,
  };
  const outcome = await mountImage(job);
  if (options.verbose === true) print(describeOutcome(outcome, job));
}
