import type { Command } from 'commander';
import { defaultSocketPath } from '../../client/client.ts';
import type { Evidence } from '../../client/client.ts';
import { print, printJson } from '../output.ts';
import { withClient } from '../with-client.ts';

/** Adds `reload`. */
export function addReloadCommand(program: Command): void {
  program
    .command('reload')
    .summary('make the service read its policy anew (root)')
    .description(
      'Makes the service read its policy anew, all or nothing: one that does not load leaves the old one in force, and ' +
        'this exits 1. Lists the images whose mounts are still in use and which the new policy would refuse.',
    )
    .option('--socket <PATH>', "the service's socket", defaultSocketPath)
    .option('--json', 'print JSON')
    .action(reload);
}

async function reload(options: { socket: string; json?: true }): Promise<void> {
  const reply = await withClient(options.socket, (client) => client.reload());
  if (options.json === true) {
    printJson(reply);
    return;
  }
  print(`policy ${reply.policyDigest} is in force`);
  reply.refusedNow.forEach((evidence) => {
    print(`still mounted, and refused from now on: ${formatEvidence(evidence)}`);
  });
}

function formatEvidence({ digest, name, version, rule }: Evidence): string {
  const named = name === undefined ? '' : ` (${name}${version === undefined ? '' : `, version ${version}`})`;
  return `${digest}${named}, mounted by the rule "${rule}"`;
}
