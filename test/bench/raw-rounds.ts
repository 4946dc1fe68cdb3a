import { spawn, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** What raw.c can be asked for. */
export type RawWork = 'build' | 'pass' | 'call' | 'dial' | 'flood' | 'hold' | 'walk';

/** Runs rounds in a C program, raw.c: each answers with the microseconds of every round. */
export interface RawRounds {
  run(what: RawWork, rounds: number): Promise<number[]>;
  close(): Promise<void>;
}

/** What the program works with. */
export interface RawTarget {
  readonly imagePath: string;
  readonly storePath: string;
  readonly socketPath: string;
  /** A file with the bytes of a call of Mount. */
  readonly requestPath: string;
}

/** Compiles raw.c into `folder`; undefined where this machine has no gcc. */
export function compileRaw(folder: string): string | undefined {
  const program = join(folder, 'raw');
  const source = resolve(process.cwd(), 'test/bench/raw.c');
  const options = ['-O2', '-Wall', '-o', program, source];
  const compiled = spawnSync(process.env['CC'] ?? 'gcc', options, { encoding: 'utf8' });
  if (compiled.error !== undefined) return undefined;
  if (compiled.status !== 0) throw new Error(compiled.stderr);
  return program;
}

/** Starts what compileRaw made; `wrapper` is a command that takes the program for the rest of its words. */
export function startRaw(program: string, target: RawTarget, wrapper: readonly string[] = []): RawRounds {
  const { imagePath, storePath, socketPath, requestPath } = target;
  const [command, ...words] = [...wrapper, program, imagePath, storePath, socketPath, requestPath];
  const child = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((done) => child.once('close', done));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    run: async (what, rounds) => {
      child.stdin.write(`${what} ${rounds}\n`);
      const line = await lines.next();
      if (line.done === true) throw new Error('the program of the raw calls has ended');
      return line.value.trim().split(' ').map(Number);
    },
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
