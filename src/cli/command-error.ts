/**
 * A command that could not do what it was asked. The message is the one line that the user sees on standard error;
 * exitCode is what the program ends with.
 */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}
