import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { verityDigest } from '../../src/verity/verity.ts';
import { writeImage } from '../../src/composefs/write.ts';
import type { Directory, Entry } from '../../src/composefs/tree.ts';
import type { Digest } from '../../src/base/digest.ts';
import { formatEnvelope } from '../../src/trust/dsse.ts';
import { generateKeyPair, parsePrivateKey } from '../../src/trust/private-key.ts';
import { signStatement } from '../../src/trust/sign.ts';
import type { FileSystem } from '../../src/trust/file-system.ts';
import { RawClient } from './raw-client.ts';

const program = resolve(import.meta.dirname, '../../dist/cli/cfs-mountd.cjs');

/** A line of the service's log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** A place on a disk from which EROFS mounts: tmpfs is none. Removed by `remove`. */
export interface Place {
  readonly folder: string;
  remove(): void;
}

/** Makes a folder of root's below TMPDIR, or /var/tmp. */
export function makePlace(name: string): Place {
  const folder = mkdtempSync(join(process.env['TMPDIR'] ?? '/var/tmp', `cfs-${name}-`));
  chmodSync(folder, 0o755);
  return {
    folder,
    remove: () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Signs for tests: a key pair, and the signature files made with it. */
export class Signer {
  readonly publicPem: string;
  readonly #privatePem: string;

  constructor() {
    const { privatePem, publicPem } = generateKeyPair();
    this.#privatePem = privatePem;
    this.publicPem = publicPem;
  }

  /** A signature file over `digest` under `name`. */
  sign(
    digest: Digest,
    name: string,
    more: {
      readonly version?: number;
      readonly expires?: Date;
      readonly notBefore?: Date;
      readonly fileSystem?: FileSystem;
    } = {},
  ): Uint8Array {
    const statement = { name, digest, fileSystem: 'composefs', ...more } as const;
    return formatEnvelope(signStatement(statement, parsePrivateKey(this.#privatePem)));
  }
}

const owned = { uid: 0, gid: 0, mtime: { seconds: 0n, nanoseconds: 0 }, xattrs: [] } as const;

/** A composefs image that holds small files alone, each by its path's last part, and needs no store. */
export function smallImage(
  files: Readonly<Record<string, string>>,
  more: readonly [string, Entry][] = [],
): Uint8Array {
  const entries = new Map<string, Entry>(more);
  for (const [name, text] of Object.entries(files)) {
    const bytes = Buffer.from(text);
    entries.set(name, {
      type: 'file',
      mode: 0o644,
      ...owned,
      size: bytes.length,
      content: { kind: 'inline', bytes },
      nlink: 1,
    });
  }
  const root: Directory = { type: 'directory', mode: 0o755, ...owned, entries };
  return writeImage({ root }, { minVersion: 1, maxVersion: 1 });
}

/** The image's digest. */
export function digestOf(image: Uint8Array): Digest {
  return verityDigest(image);
}

/** How a service is started. */
export interface HostOptions {
  /** Holds everything of the service: policy, state, socket. */
  readonly folder: string;
  /** Policy files by name. */
  readonly policy: Readonly<Record<string, string>>;
  /** Key files by name. */
  readonly keys?: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly arguments?: readonly string[];
  /** The program to start, in place of the checkout's own. */
  readonly program?: string;
  /** A command that is given the service's, and becomes it. */
  readonly through?: readonly string[];
  /** A listening socket that is handed over as the service manager does it (sd_listen_fds(3)). */
  readonly listening?: number;
}

/** A service that runs, in a mount namespace of its own. */
export class Host {
  readonly folder: string;
  readonly socketPath: string;
  readonly log: LogLine[] = [];
  readonly #process: ChildProcess;
  #errors = '';
  readonly #ended: Promise<number | null>;

  private constructor(folder: string, socketPath: string, child: ChildProcess) {
    this.folder = folder;
    this.socketPath = socketPath;
    this.#process = child;
    this.#ended = new Promise((done) => {
      child.once('close', done);
    });
    // A test that fails before it stops the service leaves none behind.
    process.once('exit', () => child.kill('SIGKILL'));
    if (child.stdout === null || child.stderr === null) throw new Error('the service has no output');
    createInterface(child.stdout).on('line', (line) => {
      const parsed: unknown = JSON.parse(line);
      this.log.push(parsed as LogLine);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
  }

  /** Starts a service and waits until it is ready. */
  static async start(options: HostOptions): Promise<Host> {
    writePolicy(options.folder, options.policy, options.keys ?? {});
    const socketPath = join(options.folder, 'run', 'io.cfsmountd.MountDelegation');
    const host = new Host(options.folder, socketPath, spawnService(options, socketPath));
    await host.until('it is ready', () => host.log.some((line) => line['msg'] === 'ready'));
    return host;
  }

  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error('the service did not start');
    return pid;
  }

  /** A new connection. */
  connect(): RawClient {
    return new RawClient(this.socketPath);
  }

  /** The audit lines so far. */
  get audit(): readonly LogLine[] {
    return this.log.filter((line) => line['msg'] === 'audit');
  }

  /** Waits, up to half a minute, until `condition` holds; fails at once where the service has ended. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const end = Date.now() + 30_000;
    while (!condition()) {
      const { exitCode, signalCode } = this.#process;
      if (exitCode !== null || signalCode !== null) {
        throw new Error(
          `the service ended (${exitCode ?? signalCode ?? ''}) before ${what}: ${this.#errors}`,
        );
      }
      if (Date.now() > end)
        throw new Error(`waited in vain until ${what}: ${JSON.stringify(this.log.slice(-5))}`);
      await wait(10);
    }
  }

  /** Sends a signal. */
  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Waits for its end, and answers its exit code. */
  ended(): Promise<number | null> {
    return this.#ended;
  }

  /** What it wrote on standard error. */
  get errors(): string {
    return this.#errors;
  }

  /** Ends it as the service manager would, and checks that it ended well. */
  async stop(): Promise<void> {
    this.signal('SIGTERM');
    const code = await this.#ended;
    if (code !== 0) throw new Error(`the service ended with ${code ?? 'a signal'}: ${this.#errors}`);
  }
}

/** Writes policy and keys below `folder`, in place of what is there. */
export function writePolicy(
  folder: string,
  policy: Readonly<Record<string, string>>,
  keys: Readonly<Record<string, string>>,
): void {
  for (const [name, files] of [
    ['policy.d', policy],
    ['keys.d', keys],
  ] as const) {
    const target = join(folder, 'policy', name);
    if (existsSync(target)) rmSync(target, { recursive: true });
    mkdirSync(target, { recursive: true, mode: 0o755 });
    for (const [file, text] of Object.entries(files))
      writeFileSync(join(target, file), text, { mode: 0o644 });
  }
}

/** The arguments with which a service serves `folder`. */
export function serviceArguments(folder: string, socketPath: string): string[] {
  return [
    program,
    '--socket',
    socketPath,
    '--policy',
    join(folder, 'policy'),
    '--state',
    join(folder, 'state'),
  ];
}

function spawnService(options: HostOptions, socketPath: string): ChildProcess {
  const [own = '', ...parameters] = serviceArguments(options.folder, socketPath);
  const service = [
    process.execPath,
    options.program ?? own,
    ...parameters,
    '--log-level',
    'debug',
    ...(options.arguments ?? []),
  ];
  const { listening } = options;
  // LISTEN_PID says whose the sockets are, which only the process itself knows beforehand.
  const handedOver = ['sh', '-c', 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', 'sh'];
  // unshare(1) becomes the service, so that its process is the one to signal.
  return spawn(
    'unshare',
    [
      ...['--mount', '--propagation', 'private', '--'],
      ...(listening === undefined ? [] : handedOver),
      ...(options.through ?? []),
      ...service,
    ],
    {
      env: { ...process.env, NOTIFY_SOCKET: undefined, LISTEN_FDS: undefined, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe', ...(listening === undefined ? [] : [listening])],
    },
  );
}
