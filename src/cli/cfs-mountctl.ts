#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { addAddObjectsCommand } from './commands/add-objects.ts';
import { addDropCommand } from './commands/drop.ts';
import { addKeptCommand } from './commands/kept.ts';
import { addKeygenCommand } from './commands/keygen.ts';
import { addMountCommand } from './commands/mount.ts';
import { addPolicyCommand } from './commands/policy.ts';
import { addReloadCommand } from './commands/reload.ts';
import { addSignCommand } from './commands/sign.ts';
import { addStatusCommand } from './commands/status.ts';
import { addUmountCommand } from './commands/umount.ts';
import { addVerifyCommand } from './commands/verify.ts';
import { addVersionsCommand } from './commands/versions.ts';
import { addBuildCommand } from './image-commands/build.ts';
import { addDigestCommand } from './image-commands/digest.ts';
import { addDumpCommand } from './image-commands/dump.ts';
import { addInspectCommand } from './image-commands/inspect.ts';
import { addInstallCommand } from './image-commands/install.ts';
import { addLsCommand } from './image-commands/ls.ts';
import { addMissingCommand } from './image-commands/missing.ts';
import { addObjectsCommand } from './image-commands/objects.ts';
import { addStoreCommand } from './image-commands/store.ts';
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

// In the order in which the help lists them: along the way of an image.
for (const add of [
  addKeygenCommand,
  addBuildCommand,
  addDigestCommand,
  addSignCommand,
  addVerifyCommand,
  addInspectCommand,
  addLsCommand,
  addDumpCommand,
  addObjectsCommand,
  addMissingCommand,
  addStoreCommand,
  addInstallCommand,
  addAddObjectsCommand,
  addPolicyCommand,
  addVersionsCommand,
  addMountCommand,
  addUmountCommand,
  addStatusCommand,
  addKeptCommand,
  addDropCommand,
  addReloadCommand,
]) {
  add(program);
}

await runProgram('cfs-mountctl', async () => {
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.help' && error.exitCode !== 0)
      throw new CommandError('a command is needed; try --help');
    // Commander has said what is wrong, or printed its help, already.
    process.exitCode = error.exitCode;
  }
});
