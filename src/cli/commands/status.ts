import type { Command } from 'commander';
import { defaultSocketPath } from '../../client/client.ts';
import type { DescribeReply } from '../../client/client.ts';
import { featureNotes, type FeatureNote } from '../../mount/features.ts';
import { CommandError } from '../command-error.ts';
import { print, printJson } from '../output.ts';
import { withClient } from '../with-client.ts';

/** Adds `status`. */
export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .summary('show what the service can do here')
    .description(
      'Shows the version of the service that runs, the policy in force, and what this kernel can do. Exits 1 where the ' +
        'service cannot be reached, and where the newest policy on disk did not load.',
    )
    .option('--socket <PATH>', "the service's socket", defaultSocketPath)
    .option('--json', 'print JSON')
    .action(status);
}

async function status(options: { socket: string; json?: true }): Promise<void> {
  const description = await withClient(options.socket, (client) => client.describe());
  if (options.json === true) printJson(description);
  else descriptionLines(description).forEach(print);
  const { lastError } = description.policy;
  if (lastError !== undefined) throw new CommandError(`the newest policy did not load: ${lastError}`);
}

/** What Describe answered, in lines for people. */
export function descriptionLines(description: DescribeReply): string[] {
  const { version, policy, fileSystems, kernel, limits, confinement } = description;
  return [
    `cfs-mountd ${version}`,
    `policy ${policy.digest}, loaded ${policy.loadedAt}`,
    `file systems: ${fileSystems.join(', ')}`,
    'kernel:',
    ...featureTable(kernel),
    'limits:',
    ...sorted(limits).map(([name, value]) => `  ${name}: ${value}`),
    ...(confinement === undefined
      ? []
      : [`capabilities: ${confinement.capabilities.join(', ')}`, `fences: ${confinement.fences.join(', ')}`]),
  ];
}

/** A line for each feature: whether it is here, which Linux brought it, what it is for. The service may know more than this program. */
function featureTable(kernel: DescribeReply['kernel']): string[] {
  const notes: Readonly<Record<string, FeatureNote | undefined>> = featureNotes;
  const names = Object.keys(kernel);
  const width = Math.max(...names.map((name) => name.length + 1));
  return sorted(kernel).map(([name, here]) => {
    const { since = '', what = '' } = notes[name] ?? {};
    const version = since === '' ? '' : `Linux ${since}`;
    return `  ${`${name}:`.padEnd(width)} ${here ? 'yes' : 'no '} ${version.padEnd(10)} ${what}`.trimEnd();
  });
}

function sorted<Value>(map: Readonly<Record<string, Value>>): [string, Value][] {
  return Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
}
