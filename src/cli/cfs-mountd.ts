#!/usr/bin/env node
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { logLevels, type LogLevel } from '../daemon/calls/log-level.ts';
import { confineProcess } from '../daemon/confine.ts';
import { adjustLimits } from '../daemon/callers/limits.ts';
import { programVersion } from './program-version.ts';
import { usageError } from './usage.ts';

interface Options {
  readonly socket: string;
  readonly policy?: readonly string[];
  readonly state: string;
  readonly logLevel: LogLevel;
  readonly limit?: ReadonlyMap<string, number>;
}

function absolute(value: string): string {
  if (value === '') throw new InvalidArgumentError('It is empty.');
  return resolve(value);
}

function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), absolute(value)];
}

function collectLimit(
  text: string,
  before: ReadonlyMap<string, number> = new Map(),
): ReadonlyMap<string, number> {
  const [, name = '', value = ''] = /^([A-Za-z]+)=(\d{1,16})$/.exec(text) ?? [];
  if (name === '') throw new InvalidArgumentError('It is not NAME=NUMBER.');
  return new Map([...before, [name, Number(value)]]);
}

const program = new Command('cfs-mountd')
  .description(
    'Verifies signed filesystem images against the policy and passes their mounts back as descriptors.',
  )
  .version(programVersion())
  .option('--socket <path>', 'where to listen', absolute, '/run/cfs-mountd/io.cfsmountd.MountDelegation')
  .option(
    '--policy <directory>',
    'folder with policy.d and keys.d, in place of the default ones; repeatable',
    collect,
  )
  .option(
    '--state <directory>',
    'newest versions, and images while they are mounted',
    absolute,
    '/var/lib/cfs-mountd',
  )
  .addOption(
    new Option('--log-level <level>', 'least level of what is logged').choices(logLevels).default('info'),
  )
  .option(
    '--limit <name=number>',
    'another value for one of the limits that `cfs-mountctl status` lists; repeatable',
    collectLimit,
  )
  .allowExcessArguments(false)
  .exitOverride()
  .configureOutput({
    outputError: (text, write) => {
      write(usageError('cfs-mountd', text));
    },
  });

async function main(): Promise<void> {
  program.parse();
  const options = program.opts<Options>();
  if (process.geteuid?.() !== 0) throw new Error('only root can mount for others: run it as root');
  if (options.limit !== undefined) adjustLimits(options.limit);
  const confinement = confineProcess();
  // Loaded only now: before, the process may begin anew.
  const { startDaemon } = await import('../daemon/daemon.ts');
  startDaemon({
    confinement,
    socketPath: options.socket,
    policyDirectories: options.policy,
    stateDirectory: options.state,
    logLevel: options.logLevel,
    version: programVersion(),
    environment: process.env,
  });
}

// Nothing waits for its end: the bundle is CommonJS, which has no await out here.
main().catch((error: unknown) => {
  // Commander has said what is wrong, or printed its help, already.
  if (!(error instanceof CommanderError)) {
    process.stderr.write(`cfs-mountd: ${error instanceof Error ? error.message : String(error)}\n`);
  }
  process.exit(error instanceof CommanderError ? error.exitCode : 1);
});
