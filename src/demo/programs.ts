import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';

/** Where the demo finds its own programs: in a place that a user without privileges can read. */
export interface Installation {
  /** The node executable. */
  readonly node: string;
  /** The folder of the built project. */
  readonly project: string;
}

/** What a program said and how it ended. */
export interface Outcome {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

/** The argument vector of one of the project's own programs. */
export function own(installation: Installation, program: string, ...parameters: readonly string[]): string[] {
  return [installation.node, join(installation.project, 'dist/cli', `${program}.cjs`), ...parameters];
}

/** Runs a command to its end, as `uid` where one is given, and says how it ended. */
export function run(command: readonly string[], uid?: number): Outcome {
  const [file = '', ...parameters] = command;
  const result = spawnSync(file, parameters, {
    encoding: 'utf8',
    cwd: '/',
    timeout: 60_000,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  if (result.error !== undefined) throw result.error;
  return { status: result.status ?? 1, output: result.stdout.trim(), errors: result.stderr.trim() };
}

/** Runs a command that has to succeed; returns what it printed. */
export function mustRun(command: readonly string[], uid?: number): string {
  const outcome = run(command, uid);
  if (outcome.status !== 0) throw new Error(`${command.join(' ')}: ${outcome.errors || outcome.output}`);
  return outcome.output;
}

/** A daemon under way. */
export interface Running {
  /** What it has logged so far, a JSON object each. */
  readonly log: readonly string[];
  /** Ends it with SIGTERM; returns its exit status once it is gone. */
  stop(): Promise<number>;
}

const startMillisecondsMax = 30_000;

/** Whether something listens on the socket. */
async function answers(socketPath: string): Promise<boolean> {
  const connection = connect(socketPath);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}

/** Starts the daemon and waits until its socket takes connections. */
export async function startDaemon(command: readonly string[], socketPath: string): Promise<Running> {
  const [file = '', ...parameters] = command;
  const daemon = spawn(file, parameters, { cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] });
  const log: string[] = [];
  createInterface({ input: daemon.stdout }).on('line', (line) => log.push(line));
  const exited = new Promise<number>((resolve) => {
    daemon.once('exit', (code) => {
      resolve(code ?? 1);
    });
  });
  const deadline = performance.now() + startMillisecondsMax;
  while (!(await answers(socketPath))) {
    if (daemon.exitCode !== null || performance.now() > deadline) {
      daemon.kill('SIGKILL');
      throw new Error(`the daemon did not start: ${log.join('\n')}`);
    }
    await setTimeout(20);
  }
  return {
    log,
    stop() {
      daemon.kill('SIGTERM');
      return exited;
    },
  };
}
