import { CommandError } from '../command-error.ts';
import { asCommandError } from './explained.ts';

/**
 * Does `work` for each file in turn, then `finish`. A file that fails does not keep the others from their turn: it is
 * said on standard error, and at the end the last failure is thrown as CommandError.
 */
export async function eachFile(
  files: readonly string[],
  work: (file: string) => Promise<void>,
  finish: () => Promise<void> | void,
): Promise<void> {
  let failure: CommandError | undefined;
  for (const file of files) {
    try {
      await work(file);
    } catch (error) {
      const explained = asCommandError(file, error);
      if (!(explained instanceof CommandError)) throw explained;
      if (failure !== undefined) process.stderr.write(`cfs-mountctl: ${failure.message}\n`);
      failure = explained;
    }
  }
  await finish();
  if (failure !== undefined) throw failure;
}
