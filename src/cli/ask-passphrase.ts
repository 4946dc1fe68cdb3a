import type { ReadStream } from 'node:tty';
import { CommandError } from './command-error.ts';

/** OpenSSL takes no longer passphrases. */
const passphraseBytesMax = 1024;

/**
 * Asks for a passphrase on standard input, without an echo. Undefined where that is no terminal. Throws CommandError where
 * it is empty, too long, or where the user gives up (Ctrl-C, Ctrl-D).
 */
export async function askPassphrase(prompt: string): Promise<string | undefined> {
  const terminal = process.stdin;
  if (!terminal.isTTY) return undefined;
  // Before the prompt: what is typed after it is never shown.
  terminal.setRawMode(true);
  process.stderr.write(prompt);
  try {
    return await readLine(terminal);
  } finally {
    terminal.setRawMode(false);
    terminal.destroy();
    process.stderr.write('\n');
  }
}

function readLine(terminal: ReadStream): Promise<string> {
  return new Promise((resolve, reject) => {
    let line: number[] = [];
    terminal.once('error', reject);
    terminal.on('data', (chunk: Buffer) => {
      for (const byte of chunk) {
        if (byte === 0x0d || byte === 0x0a) {
          if (line.length === 0) reject(new CommandError('the passphrase is empty'));
          resolve(Buffer.from(line).toString());
          return;
        }
        if (byte === 0x03 || byte === 0x04) reject(new CommandError('no passphrase was given'));
        else if (byte === 0x7f || byte === 0x08) line = withoutLast(line);
        else if (byte === 0x15)
          line = []; // Ctrl-U
        else line.push(byte);
        if (line.length > passphraseBytesMax)
          reject(new CommandError(`a passphrase of more than ${passphraseBytesMax} bytes`));
      }
    });
  });
}

/** Without the last character, which in UTF-8 may be several bytes. */
function withoutLast(line: readonly number[]): number[] {
  const start = line.findLastIndex((byte) => (byte & 0xc0) !== 0x80);
  return line.slice(0, Math.max(start, 0));
}
