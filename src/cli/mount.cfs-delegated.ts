#!/usr/bin/env node
import { parseDelegatedOptions, parseType } from './delegated-options.ts';
import type { MountArguments } from './mount-arguments.ts';
import { parseMountArguments } from './mount-arguments.ts';
import { mountHelp } from './mount-help.ts';
import { endQuietlyWithoutReader, print } from './output.ts';
import { programVersion } from './program-version.ts';
import { runProgram } from './run-program.ts';

const name = 'mount.cfs-delegated';
/** An error that no code was given to: "system error" to mount(8). */
const systemFailure = 2;

endQuietlyWithoutReader();

await runProgram(
  name,
  async () => {
    const parsed = parseMountArguments(process.argv.slice(2));
    if (parsed.kind === 'help') print(mountHelp());
    else if (parsed.kind === 'version') print(programVersion());
    else await mount(parsed);
  },
  systemFailure,
);

async function mount(parsed: MountArguments): Promise<void> {
  const options = parseDelegatedOptions(parsed.options, parsed.sloppy);
  const job = { ...parsed, options: { ...options, type: options.type ?? parseType(parsed.type) } };
  // Only now: usage errors and --help need no system calls of their own.
  const { describeOutcome, mountImage } = await import('./mount-image.ts');
  const outcome = await mountImage(job);
  if (parsed.verbose) print(`${name}: ${describeOutcome(outcome, job)}`);
}
