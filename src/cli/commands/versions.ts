import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { formatVersionsFile, versionsFileName } from '../../policy/versions-file.ts';
import { lockFile, openFile } from '../../sys/file.ts';
import { CommandError } from '../command-error.ts';
import { withPath } from '../input-file.ts';
import { replaceFile } from '../replace-file.ts';
import { print, printJson, warn } from '../output.ts';
import { defaultState, readVersions } from '../read-versions.ts';

interface VersionsOptions {
  forget?: string;
  state: string;
  json?: true;
}

/** Adds `versions`. */
export function addVersionsCommand(program: Command): void {
  program
    .command('versions')
    .summary('show the newest versions that were mounted')
    .description(
      'Shows the newest versions that rollback protection remembers: older ones are refused. With --forget, makes the ' +
        'service forget an image; it must not be running then. Only root can do either.',
    )
    .option('--forget <NAME>', 'forget the image of this signed name, under every rule')
    .option('--state <DIR>', 'state directory of the service', defaultState)
    .option('--json', 'print JSON')
    .action(versions);
}

function versions(options: VersionsOptions): void {
  if (options.forget !== undefined) {
    forget(options.state, options.forget);
    return;
  }
  const entries = readVersions(options.state);
  if (options.json === true) printJson(entries);
  else if (entries.length === 0) {
    const why = existsSync(options.state)
      ? 'none was mounted under rollback-protection'
      : 'it does not exist';
    warn(`no newest version is remembered in ${options.state}: ${why}`);
  } else for (const { rule, name, version } of entries) print(`${name}  ${version}  ${rule}`);
}

function forget(state: string, name: string): void {
  // A service keeps the versions in memory, and would write them again with its next one.
  using folder = withPath(state, () => openFile(state, { directory: true }));
  if (!lockFile(folder.number)) {
    throw new CommandError(
      `${state} is in use by the service, which remembers what is in it: stop that first`,
    );
  }
  const entries = readVersions(state);
  const kept = entries.filter((entry) => entry.name !== name);
  const count = entries.length - kept.length;
  if (count === 0) throw new CommandError(`no version of "${name}" is remembered`);
  replaceFile(join(state, versionsFileName), formatVersionsFile(kept), 0o600);
  print(`forgot ${count} ${count === 1 ? 'version' : 'versions'} of ${name}`);
}
