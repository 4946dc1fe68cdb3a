/**
 * Makes a reader that went away (`… | head`) end the program quietly, as programs that SIGPIPE ends do. To be called once,
 * first thing.
 */
export function endQuietlyWithoutReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

/** Writes a line to standard output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Writes `value` as JSON, for programs to read: what `--json` asks for. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/** Writes a line to standard error that warns, and changes nothing else. */
export function warn(line: string): void {
  process.stderr.write(`warning: ${line}\n`);
}
