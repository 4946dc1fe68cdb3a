import { CommandError } from './command-error.ts';
import { readInputFile } from './input-file.ts';

/** OpenSSL takes no longer passphrases. */
const passphraseFileBytesMax = 1024;

/** The first line of the file at `path`, which is not empty. Throws CommandError. */
export function readPassphrase(path: string): string {
  const [line = ''] = Buffer.from(readInputFile(path, passphraseFileBytesMax)).toString().split(/\r?\n/);
  if (line === '') throw new CommandError(`${path}: its first line is empty`);
  return line;
}
