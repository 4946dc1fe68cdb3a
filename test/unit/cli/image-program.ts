import { Command } from 'commander';
import { vi } from 'vitest';

import { addBuildCommand } from '../../../src/cli/image-commands/build.ts';
import { addDigestCommand } from '../../../src/cli/image-commands/digest.ts';
import { addDumpCommand } from '../../../src/cli/image-commands/dump.ts';
import { addInspectCommand } from '../../../src/cli/image-commands/inspect.ts';
import { addInstallCommand } from '../../../src/cli/image-commands/install.ts';
import { addLsCommand } from '../../../src/cli/image-commands/ls.ts';
import { addMissingCommand } from '../../../src/cli/image-commands/missing.ts';
import { addObjectsCommand } from '../../../src/cli/image-commands/objects.ts';
import { addStoreCommand } from '../../../src/cli/image-commands/store.ts';

/** What a command wrote, and what it threw: `CommandError` or an error of commander's. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly failure: string | undefined;
}

/** Runs one of the image commands in this process. */
export async function run(...parameters: readonly string[]): Promise<Outcome> {
  const program = new Command('cfs-mountctl').exitOverride().configureOutput({ writeErr: () => undefined });
  addBuildCommand(program);
  addDigestCommand(program);
  addDumpCommand(program);
  addInspectCommand(program);
  addInstallCommand(program);
  addLsCommand(program);
  addMissingCommand(program);
  addObjectsCommand(program);
  addStoreCommand(program);
  // Subcommands took over exitOverride when they were made.
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      written[stream] += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('latin1');
      return true;
    }),
  );
  let failure: string | undefined;
  try {
    await program.parseAsync(parameters, { from: 'user' });
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return { ...written, failure };
}
