import { explainError } from '../client/explain-error.ts';
import { CommandError } from './command-error.ts';

/**
 * Runs `work` for the program `name`. Where it fails, one line on standard error says why, and the process ends with the
 * error's exit code: a CommandError's own, else `otherwise`.
 */
export async function runProgram(
  name: string,
  work: () => Promise<void> | void,
  otherwise = 1,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    process.stderr.write(`${name}: ${explainError(error)}\n`);
    process.exitCode = error instanceof CommandError ? error.exitCode : otherwise;
  }
}
