import { existsSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';
import type { Digest } from '../../base/digest.ts';
import type { Envelope } from '../../trust/dsse.ts';
import { EnvelopeInvalid, formatEnvelope, parseEnvelope, signatureFileBytesMax } from '../../trust/dsse.ts';
import type { FileSystem } from '../../trust/file-system.ts';
import { fileSystems } from '../../trust/file-system.ts';
import { keyFileBytesMax, parsePublicKey } from '../../trust/key.ts';
import type { PublicKey } from '../../trust/public-key.ts';
import { KeyInvalid } from '../../trust/public-key.ts';
import type { PrivateKey } from '../../trust/private-key.ts';
import { isEncryptedPrivateKey, parsePrivateKey } from '../../trust/private-key.ts';
import { readPassphrase } from '../passphrase-file.ts';
import { attachSignature, checkStates, openEnvelope, signedBytesOf } from '../../trust/sign.ts';
import { dsseOfSsh } from '../../trust/ssh-agent.ts';
import { formatSshSignature, sshMessage } from '../../trust/ssh-signature.ts';
import type { Statement } from '../../trust/statement.ts';
import { StatementInvalid } from '../../trust/statement.ts';
import { parseTime } from '../../trust/time.ts';
import { signatureFormats, type SignatureFormat } from '../../policy/policy.ts';
import type { Certificate } from '../../trust/certificate.ts';
import { CertificateInvalid, parseCertificateChain } from '../../trust/certificate.ts';
import { pkcs7BytesMax, pkcs7CertificatesMax } from '../../trust/pkcs7-signature.ts';
import { signDigestPkcs7 } from '../../trust/sign-pkcs7.ts';
import type { AgentSignature } from '../ask-agent.ts';
import { signByAgent } from '../ask-agent.ts';
import { askPassphrase } from '../ask-passphrase.ts';
import { CommandError } from '../command-error.ts';
import { fileSystemOfImage } from '../file-system-of-image.ts';
import { measureFile, readInputFile, withPath } from '../input-file.ts';
import { print, warn } from '../output.ts';
import { replaceFileUnless } from '../replace-file.ts';

interface SignOptions {
  key: string;
  passphraseFile?: string;
  format: SignatureFormat;
  certificate?: string;
  name?: string;
  version?: number;
  notBefore?: Date;
  expires?: Date;
  fileSystem?: FileSystem;
  output?: string;
}

/** Adds `sign`. */
export function addSignCommand(program: Command): void {
  program
    .command('sign')
    .summary('sign an image')
    .description(
      'Signs an image: states its name and digest, and signs that with a key. The signature is a DSSE envelope, by default ' +
        'in IMAGE.sig. Where that file exists, the signature is added to those in it, which have to state the same. With ' +
        '--format ssh it is one of OpenSSH, as `ssh-keygen -Y sign -n cfs-mountd` makes it over the line that ' +
        '`cfs-mountctl digest --statement` prints; with --format fsverity-pkcs7 it is one of fs-verity, as `fsverity sign` ' +
        'makes it. These state the digest and nothing else. Where KEY is a public key, ' +
        'ssh-agent signs, and the private half never leaves it.',
    )
    .argument('<IMAGE>', 'the image')
    .requiredOption(
      '-k, --key <KEY>',
      'the private key (PKCS#8 PEM), or the public key of one that ssh-agent (SSH_AUTH_SOCK) holds',
    )
    .option(
      '--passphrase-file <FILE>',
      "file whose first line is the private key's passphrase (default: ask on the terminal)",
    )
    .addOption(new Option('--format <FORMAT>', 'kind of signature').choices(signatureFormats).default('dsse'))
    .option(
      '--certificate <FILE>',
      "the key's certificate, and those that lead from it to an authority (PEM); for --format fsverity-pkcs7",
    )
    .option(
      '-n, --name <NAME>',
      'what the image is called: the name that the rules of a policy match (required for --format dsse)',
    )
    .option('--version <N>', 'version, for protection against rollback: 0 to 2^53 - 1', parseVersion)
    .option('--not-before <TIME>', 'when the statement begins to count (RFC 3339)', parseTimeArgument)
    .option('--expires <TIME>', 'when it ceases to count (RFC 3339)', parseTimeArgument)
    .addOption(
      new Option('--file-system <TYPE>', 'filesystem of the image; by default what it is seen to be').choices(
        fileSystems,
      ),
    )
    .option('-o, --output <FILE>', 'signature file (default: IMAGE.sig)')
    .action(signImage);
}

async function signImage(image: string, options: SignOptions): Promise<void> {
  if (options.format !== 'fsverity-pkcs7' && options.certificate !== undefined)
    throw new CommandError('--certificate is for --format fsverity-pkcs7 alone');
  if (options.format !== 'dsse') {
    await signBare(image, options);
    return;
  }
  if (options.name === undefined) {
    throw new CommandError(
      'say what the image is called, with --name: the name that the rules of a policy match',
    );
  }
  const signer = await readSigner(options);
  const statement: Statement = {
    name: options.name,
    digest: measureFile(image),
    fileSystem: chooseFileSystem(image, options.fileSystem),
    ...(options.version !== undefined && { version: options.version }),
    ...(options.notBefore !== undefined && { notBefore: options.notBefore }),
    ...(options.expires !== undefined && { expires: options.expires }),
  };
  warnOfTimes(statement);
  const output = options.output ?? `${image}.sig`;
  await addSignature(output, statement, signer);
  print(`${output}: ${statement.digest} signed as ${statement.name} by ${signer.publicKey.id}`);
}

/** Adds the signature to those in the file, among them any that others add meanwhile: signing may wait for a person. */
async function addSignature(output: string, statement: Statement, signer: Signer): Promise<void> {
  for (;;) {
    const before = readWherePresent(output);
    const signed = formatEnvelope(await envelopeFor(output, before, statement, signer));
    const written = replaceFileUnless(output, signed, () => !isSame(before, readWherePresent(output)));
    if (written) return;
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}

function readWherePresent(path: string): Uint8Array | undefined {
  return existsSync(path) ? readInputFile(path, signatureFileBytesMax) : undefined;
}

/** Signs the digest alone. A file holds one such signature: another one is not added, and nothing is overwritten. */
async function signBare(image: string, options: SignOptions): Promise<void> {
  const stated = (['name', 'version', 'notBefore', 'expires', 'fileSystem'] as const).find(
    (option) => options[option] !== undefined,
  );
  if (stated !== undefined) {
    const option = stated.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new CommandError(
      `--${option} cannot be stated in the format ${options.format}, which holds the digest and nothing else`,
    );
  }
  const output = options.output ?? `${image}.sig`;
  demandAbsent(output);
  const signer = await readSigner(options);
  const digest = measureFile(image);
  const signed = await signedBare(digest, signer, options);
  // Somebody else may have signed meanwhile.
  while (!replaceFileUnless(output, signed, () => existsSync(output))) demandAbsent(output);
  print(`${output}: ${digest} signed by ${signer.publicKey.id}`);
}

function demandAbsent(output: string): void {
  if (!existsSync(output)) return;
  throw new CommandError(`${output}: it exists already; write this signature to another file, with --output`);
}

async function signedBare(
  digest: Digest,
  signer: Signer,
  { key, format, certificate }: SignOptions,
): Promise<Uint8Array> {
  if (format === 'ssh') return formatSshSignature(signer.publicKey, await signer.signSsh(sshMessage(digest)));
  if (certificate === undefined)
    throw new CommandError("--format fsverity-pkcs7 needs the key's certificate, with --certificate");
  const { publicKey, signHashed } = signer;
  if (signHashed === undefined)
    throw new CommandError(
      `${key}: a public key, and ssh-agent makes no signatures of that format; give the private key`,
    );
  const chain = readChain(certificate);
  try {
    const file = signDigestPkcs7(digest, { publicKey, signHashed }, chain);
    if (file.length <= pkcs7BytesMax) return file;
  } catch (error) {
    if (error instanceof KeyInvalid) throw new CommandError(`${certificate}: ${error.message}`);
    throw error;
  }
  throw new CommandError(
    `${certificate}: its certificates make the signature longer than ${pkcs7BytesMax} bytes`,
  );
}

function readChain(path: string): readonly [Certificate, ...Certificate[]] {
  try {
    const chain = parseCertificateChain(Buffer.from(readInputFile(path, chainBytesMax)).toString());
    if (chain.length <= pkcs7CertificatesMax) return chain;
  } catch (error) {
    if (error instanceof CertificateInvalid) throw new CommandError(`${path}: ${error.message}`);
    throw error;
  }
  throw new CommandError(`${path}: more than ${pkcs7CertificatesMax} certificates`);
}

/** Certificates for a signature of 16 KiB, in PEM with what people write between them. */
const chainBytesMax = 65_536;

/** A key at hand, or one that ssh-agent holds. */
interface Signer {
  readonly publicKey: PublicKey;
  /** As DSSE carries it. Throws KeyInvalid for an RSA key. */
  sign(message: Uint8Array): Promise<Uint8Array> | Uint8Array;
  /** As OpenSSH writes it. */
  signSsh(message: Uint8Array): Promise<AgentSignature> | AgentSignature;
  /** As CMS carries it; an agent does not. */
  readonly signHashed?: PrivateKey['signHashed'];
}

async function readSigner({ key: path, passphraseFile }: SignOptions): Promise<Signer> {
  const text = Buffer.from(readInputFile(path, keyFileBytesMax)).toString();
  try {
    if (!text.includes('PRIVATE KEY-----')) return agentSigner(parsePublicKey(text));
    return parsePrivateKey(text, await passphraseOf(path, text, passphraseFile));
  } catch (error) {
    if (error instanceof KeyInvalid) throw new CommandError(`${path}: ${error.message}`);
    throw error;
  }
}

function agentSigner(publicKey: PublicKey): Signer {
  return {
    publicKey,
    sign: async (message) => dsseOfSsh(publicKey, (await signByAgent(publicKey, message)).signature),
    signSsh: (message) => signByAgent(publicKey, message),
  };
}

async function passphraseOf(
  path: string,
  pem: string,
  file: string | undefined,
): Promise<string | undefined> {
  if (file !== undefined) return readPassphrase(file);
  if (!isEncryptedPrivateKey(pem)) return undefined;
  const passphrase = await askPassphrase(`Passphrase of ${path}: `);
  if (passphrase !== undefined) return passphrase;
  throw new CommandError(
    `${path}: an encrypted private key, and no terminal to ask on; give its passphrase with --passphrase-file`,
  );
}

async function envelopeFor(
  output: string,
  before: Uint8Array | undefined,
  statement: Statement,
  signer: Signer,
): Promise<Envelope> {
  try {
    const envelope = before === undefined ? openEnvelope(statement) : parseEnvelope(before);
    checkStates(envelope, statement);
    return attachSignature(envelope, signer.publicKey, await signer.sign(signedBytesOf(envelope)));
  } catch (error) {
    if (error instanceof EnvelopeInvalid) throw new CommandError(`${output}: ${error.message}`);
    if (error instanceof KeyInvalid) throw new CommandError(`the key is ${error.message}`);
    if (error instanceof StatementInvalid) throw new CommandError(`it cannot be stated so: ${error.message}`);
    throw error;
  }
}

function chooseFileSystem(image: string, asked: FileSystem | undefined): FileSystem {
  const seen = withPath(image, () => fileSystemOfImage(image));
  const fileSystem = asked ?? seen;
  if (fileSystem === undefined) {
    throw new CommandError(`${image}: no filesystem is recognised; say which it is with --file-system`);
  }
  if (seen !== fileSystem)
    warn(`${image} does not look like ${fileSystem}${seen === undefined ? '' : `, but like ${seen}`}`);
  return fileSystem;
}

function warnOfTimes({ notBefore, expires }: Statement): void {
  const now = Date.now();
  if (expires !== undefined && expires.getTime() <= now)
    warn('--expires is past: no policy will take this signature');
  if (expires !== undefined && notBefore !== undefined && expires <= notBefore) {
    warn('--expires is not after --not-before: no policy will ever take this signature');
  }
}

function parseVersion(text: string): number {
  const version = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(version)) return version;
  throw new InvalidArgumentError('Not a whole number from 0 to 2^53 - 1.');
}

function parseTimeArgument(text: string): Date {
  const time = parseTime(text);
  if (time === undefined)
    throw new InvalidArgumentError('Not a time as RFC 3339 writes it, such as 2027-01-31T00:00:00Z.');
  return time;
}
