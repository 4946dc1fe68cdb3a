import { Command } from 'commander';
import { vi } from 'vitest';

/** What a command wrote, what it threw, and the exit code that it set. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly failure: string | undefined;
  readonly exitCode: number | undefined;
}

/** Runs a command in this process; `add` adds it to a program, and `words` are the arguments from its name on. */
export async function run(add: (program: Command) => void, ...words: readonly string[]): Promise<Outcome> {
  const program = new Command('cfs-mountctl')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  add(program);
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      written[stream] += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('latin1');
      return true;
    }),
  );
  const exitCodeBefore = process.exitCode;
  let failure: string | undefined;
  let exitCode: number | undefined;
  try {
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  } finally {
    for (const spy of spies) spy.mockRestore();
    exitCode = process.exitCode === undefined ? undefined : Number(process.exitCode);
    process.exitCode = exitCodeBefore;
  }
  return { ...written, failure, exitCode };
}
