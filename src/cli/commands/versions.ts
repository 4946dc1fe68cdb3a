import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { NewestVersion } from '../../policy/versions-file.ts';
import { formatVersionsFile, salvageVersionsFile, versionsFileName } from '../../policy/versions-file.ts';
import { lockFile, openFile } from '../../sys/file.ts';
import { CommandError } from '../command-error.ts';
import { printable } from '../image-commands/printable.ts';
import { withPath } from '../input-file.ts';
import { replaceFile } from '../replace-file.ts';
import { print, printJson, warn } from '../output.ts';
import { defaultState, readVersions, readVersionsFile } from '../read-versions.ts';

/** Lost lines that are told, and bytes of each: a file may be damaged throughout. */
const lostShownMax = 32;
const lostBytesMax = 512;

interface VersionsOptions {
  forget?: string;
  repair?: true;
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
        'service forget an image, with --repair what cannot be read of a damaged file; it must not be running then. Only root ' +
        'can do either.',
    )
    .option('--forget <NAME>', 'forget the image of this signed name, under every rule')
    .option('--repair', 'keep what can be read of a damaged file, forget the rest, and say what it was')
    .option('--state <DIR>', 'state directory of the service', defaultState)
    .option('--json', 'print JSON')
    .action(versions);
}

function versions(options: VersionsOptions): void {
  if (options.repair === true || options.forget !== undefined) {
    change(options);
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

/** --repair and --forget, which go together. */
function change({ state, repair, forget }: VersionsOptions): void {
  // A service keeps the versions in memory, and would write them again with its next one.
  using folder = withPath(state, () => openFile(state, { directory: true }));
  if (!lockFile(folder.number)) {
    throw new CommandError(
      `${state} is in use by the service, which remembers what is in it: stop that first`,
    );
  }
  const path = join(state, versionsFileName);
  const entries = repair === true ? salvage(state, path) : readVersions(state);
  const kept = entries.filter((entry) => entry.name !== forget);
  const count = entries.length - kept.length;
  if (forget !== undefined && count === 0 && repair !== true)
    throw new CommandError(`no version of "${forget}" is remembered`);
  replaceFile(path, formatVersionsFile(kept), 0o600);
  if (forget !== undefined) print(`forgot ${count} ${count === 1 ? 'version' : 'versions'} of ${forget}`);
}

/** What can be read; the file as it was is kept beside it, and what was lost is told. */
function salvage(state: string, path: string): readonly NewestVersion[] {
  const bytes = readVersionsFile(state);
  const { entries, lost } = salvageVersionsFile(bytes);
  const sound = `${entries.length} ${entries.length === 1 ? 'version' : 'versions'}`;
  if (lost.length === 0) {
    print(`${path} is not damaged: it holds ${sound}`);
    return entries;
  }
  replaceFile(`${path}.damaged`, bytes, 0o600);
  for (const { line, reason, bytes: text } of lost.slice(0, lostShownMax))
    warn(
      `line ${line} is dropped: ${reason}: ${printable(Buffer.from(text.subarray(0, lostBytesMax)).toString('latin1'))}`,
    );
  if (lost.length > lostShownMax) warn(`and ${lost.length - lostShownMax} more lines are dropped`);
  print(
    `kept ${sound}, dropped ${lost.length} ${lost.length === 1 ? 'line' : 'lines'}; ${path}.damaged is the file as it was`,
  );
  return entries;
}
