/** Writes each of `lines` to standard output; nothing for none. In one go: an image may have many. */
export function printLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}
