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

// Nothing waits for its end but the process itself: the bundle is CommonJS, which has no await out here.
void runProgram(
  name,
  async () => {
    const parsed = parseMountArguments(process.argv.slice(2));
    if (parsed.kind === 'help') printForReader(mountHelp());
    else if (parsed.kind === 'version') printForReader(programVersion());
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
  if (parsed.verbose) printForReader(`${name}: ${describeOutcome(outcome, job)}`);
}

/** To open standard output takes a millisecond; most mounts print nothing. */
function printForReader(text: string): void {
  endQuietlyWithoutReader();
  print(text);
}
