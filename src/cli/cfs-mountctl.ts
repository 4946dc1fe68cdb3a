#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { CommandError } from './command-error.ts';
import { endQuietlyWithoutReader } from './output.ts';
import { programVersion } from './program-version.ts';
import { runProgram } from './run-program.ts';
import { usageError } from './usage.ts';

endQuietlyWithoutReader();

const program = new Command('cfs-mountctl')
  .description('Builds, signs, checks and mounts filesystem images for cfs-mountd.')
  .version(programVersion())
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({
    outputError: (text) => {
      process.stderr.write(usageError('cfs-mountctl', text));
    },
    // The help that commander prints where a command is missing: one line says that, below.
    writeErr: () => undefined,
  });

type AddCommand = (program: Command) => void;

/**
 * What adds each command, in the order in which the help lists them: along the way of an image. Loaded when it is asked
 * for: what all of them need takes longer to load than some of them to do their work.
 */
const commands: Readonly<Record<string, () => Promise<AddCommand>>> = {
  keygen: async () => (await import('./commands/keygen.ts')).addKeygenCommand,
  build: async () => (await import('./image-commands/build.ts')).addBuildCommand,
  digest: async () => (await import('./image-commands/digest.ts')).addDigestCommand,
  sign: async () => (await import('./commands/sign.ts')).addSignCommand,
  verify: async () => (await import('./commands/verify.ts')).addVerifyCommand,
  inspect: async () => (await import('./image-commands/inspect.ts')).addInspectCommand,
  ls: async () => (await import('./image-commands/ls.ts')).addLsCommand,
  dump: async () => (await import('./image-commands/dump.ts')).addDumpCommand,
  objects: async () => (await import('./image-commands/objects.ts')).addObjectsCommand,
  missing: async () => (await import('./image-commands/missing.ts')).addMissingCommand,
  store: async () => (await import('./image-commands/store.ts')).addStoreCommand,
  install: async () => (await import('./image-commands/install.ts')).addInstallCommand,
  'add-objects': async () => (await import('./commands/add-objects.ts')).addAddObjectsCommand,
  policy: async () => (await import('./commands/policy.ts')).addPolicyCommand,
  versions: async () => (await import('./commands/versions.ts')).addVersionsCommand,
  mount: async () => (await import('./commands/mount.ts')).addMountCommand,
  umount: async () => (await import('./commands/umount.ts')).addUmountCommand,
  status: async () => (await import('./commands/status.ts')).addStatusCommand,
  kept: async () => (await import('./commands/kept.ts')).addKeptCommand,
  drop: async () => (await import('./commands/drop.ts')).addDropCommand,
  reload: async () => (await import('./commands/reload.ts')).addReloadCommand,
};

async function run(): Promise<void> {
  const asked = process.argv[2] ?? '';
  const needed = Object.hasOwn(commands, asked) ? [commands[asked]] : Object.values(commands);
  for (const load of needed) (await load?.())?.(program);
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.help' && error.exitCode !== 0)
      throw new CommandError('a command is needed; try --help');
    // Commander has said what is wrong, or printed its help, already.
    process.exitCode = error.exitCode;
  }
}

// Nothing waits for its end but the process itself: the bundle is CommonJS, which has no await out here.
void runProgram('cfs-mountctl', run);
