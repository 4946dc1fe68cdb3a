import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Room } from './room.ts';

/** Runs rounds in a C program, raw.c: each answers with the microseconds of every round. */
export interface RawRounds {
  run(what: 'build' | 'pass' | 'call', rounds: number): Promise<number[]>;
  close(): void;
}

/** Compiles and starts raw.c; undefined where this machine has no gcc. */
export function startRawRounds(room: Room): RawRounds | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'cfs-bench-'));
  const program = join(folder, 'raw');
  const source = resolve(process.cwd(), 'test/bench/raw.c');
  const compiler = process.env['CC'] ?? 'gcc';
  const compiled = spawnSync(compiler, ['-O2', '-Wall', '-o', program, source], { encoding: 'utf8' });
  if (compiled.error !== undefined) {
    rmSync(folder, { recursive: true });
    return undefined;
  }
  if (compiled.status !== 0) throw new Error(compiled.stderr);
  const child = spawn(program, [room.imagePath, room.storePath, room.socketPath, room.requestPath], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    run: async (what, rounds) => {
      child.stdin.write(`${what} ${rounds}\n`);
      const line = await lines.next();
      if (line.done === true) throw new Error('the program of the raw calls has ended');
      return line.value.trim().split(' ').map(Number);
    },
    close: () => {
      child.stdin.end();
      rmSync(folder, { recursive: true });
    },
  };
}
