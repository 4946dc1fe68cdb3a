import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { Option } from 'commander';
import type { Command } from 'commander';
import { generateKeyPair, generatedAlgorithms } from '../../trust/private-key.ts';
import { withPath } from '../input-file.ts';
import { print } from '../output.ts';
import { readPassphrase } from '../passphrase-file.ts';

/** Adds `keygen`. */
export function addKeygenCommand(program: Command): void {
  program
    .command('keygen')
    .summary('make a key for signing images')
    .description(
      'Makes a key pair: KEY is the private key (PKCS#8 PEM, mode 0600), KEY.pub the public one (SPKI PEM), ' +
        'which goes into keys.d beside the policy. Neither file may exist already. Prints the key ID, the hex SHA-256 ' +
        "of the public key's DER.",
    )
    .requiredOption('-o, --output <KEY>', 'file for the private key')
    .addOption(
      new Option('--algorithm <NAME>', 'kind of key').choices(generatedAlgorithms).default('ed25519'),
    )
    .option(
      '--passphrase-file <FILE>',
      'encrypt the private key with the passphrase that is the first line of FILE',
    )
    .action(keygen);
}

interface KeygenOptions {
  readonly output: string;
  readonly algorithm: (typeof generatedAlgorithms)[number];
  readonly passphraseFile?: string;
}

function keygen({ output: path, algorithm, passphraseFile }: KeygenOptions): void {
  const passphrase = passphraseFile === undefined ? undefined : readPassphrase(passphraseFile);
  const pair = generateKeyPair(algorithm, passphrase);
  writeNew(path, 0o600, pair.privatePem);
  try {
    writeNew(`${path}.pub`, 0o644, pair.publicPem);
  } catch (error) {
    // Nor is half a pair.
    rmSync(path, { force: true });
    throw error;
  }
  print(pair.publicKey.id);
}

/** Exclusively: a key that is overwritten is lost, and a link in its place could lead anywhere. */
function writeNew(path: string, mode: number, text: string): void {
  withPath(path, () => {
    const fd = openSync(path, 'wx', mode);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } catch (error) {
      // Half a file is of no use, and would be in the way of the next attempt.
      rmSync(path, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  });
}
