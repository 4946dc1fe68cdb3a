import type {
  InspectedCertificate,
  InspectedSignature,
  InspectedSigner,
  InspectedSshKey,
} from '../../trust/inspect-signature.ts';
import { inspectSignature, SignatureUnknown } from '../../trust/inspect-signature.ts';
import type { Statement } from '../../trust/statement.ts';
import { formatTime } from '../../trust/time.ts';
import { CommandError } from '../command-error.ts';
import { printJson } from '../output.ts';
import { printLines } from './print-lines.ts';
import { printable } from './printable.ts';

type Found<Format> = Extract<InspectedSignature, { readonly format: Format }>;

/** Prints what a signature file says. Throws CommandError for what is not understood. */
export function showSignature(path: string, file: Uint8Array, options: { readonly json?: true }): void {
  let found: InspectedSignature;
  try {
    found = inspectSignature(file);
  } catch (error) {
    if (error instanceof SignatureUnknown) throw new CommandError(`${path}: ${error.message}`);
    throw error;
  }
  if (options.json === true) printJson(found);
  else printLines(linesOf(found, new Date()));
}

function linesOf(found: InspectedSignature, now: Date): string[] {
  switch (found.format) {
    case 'dsse':
      return envelopeLines(found, now);
    case 'ssh':
      return sshLines(found);
    case 'fsverity-pkcs7':
      return pkcs7Lines(found, now);
  }
}

function envelopeLines({ statement, signatures }: Found<'dsse'>, now: Date): string[] {
  return [
    row('Format', 'dsse: an envelope with a statement'),
    ...statementLines(statement, now),
    ...signatures.map(({ keyId, bytes }, index) =>
      row(
        `Signature ${index + 1}`,
        `${keyId === '' ? 'names no key' : `claims the key ${fromText(keyId)}`}, ${bytes} bytes`,
      ),
    ),
  ];
}

function statementLines(statement: Statement, now: Date): string[] {
  const { digest, name, version, fileSystem, notBefore, expires } = statement;
  return [
    row('Digest', digest),
    row('Name', name),
    row('File system', fileSystem),
    row('Version', version?.toString() ?? 'none'),
    row('Valid from', notBefore === undefined ? 'always' : withNote(notBefore, notBefore > now, 'to come')),
    row('Expires', expires === undefined ? 'never' : withNote(expires, expires <= now, 'past')),
  ];
}

function sshLines({ hash, algorithm, key }: Found<'ssh'>): string[] {
  return [
    row('Format', 'ssh: a signature of OpenSSH, over a bare digest that it does not hold'),
    row('Algorithm', `${fromText(algorithm)} over ${hash}`),
    ...sshKeyLines(key),
  ];
}

function sshKeyLines({ fingerprint, id, algorithm, fault }: InspectedSshKey): string[] {
  if (id === undefined || algorithm === undefined)
    return [row('Key', `${fingerprint}, not taken: ${fromText(fault ?? '')}`)];
  return [row('Key', `${algorithm} ${fingerprint}`), row('Key ID', id)];
}

function pkcs7Lines({ signers, certificates }: Found<'fsverity-pkcs7'>, now: Date): string[] {
  return [
    row('Format', "fsverity-pkcs7: fs-verity's own signature, over a bare digest that it does not hold"),
    ...signers.flatMap((signer, index) => signerLines(signer, index)),
    ...certificates.flatMap((certificate, index) => certificateLines(certificate, index, now)),
  ];
}

function signerLines(signer: InspectedSigner, index: number): string[] {
  const { subjectKeyId, serial = '', issuer = '', family, hash, attributes, chain } = signer;
  const named =
    subjectKeyId === undefined
      ? `serial number ${serial}, issued by ${fromText(issuer)}`
      : `key identifier ${subjectKeyId}`;
  const certificates = chain.map((at) => (at + 1).toString()).join(', then ');
  return [
    row(`Signer ${index + 1}`, `the certificate with ${named}`),
    more(`${family} with ${hash}${attributes ? ', over signed attributes' : ''}`),
    more(
      certificates === ''
        ? 'its certificate did not come along'
        : `certificate ${certificates}${chain.length > 1 ? ', each issued by the next' : ''}`,
    ),
  ];
}

function certificateLines(certificate: InspectedCertificate, index: number, now: Date): string[] {
  const title = `Certificate ${index + 1}`;
  if (certificate.fault !== undefined)
    return [
      row(title, `not taken: ${fromText(certificate.fault)}`),
      more(`SHA-256 ${certificate.fingerprint}`),
    ];
  const { subject, issuer, serial, notBefore, notAfter, algorithm, keyId, authority, fingerprint } =
    certificate;
  const note = notBefore > now ? ', which is to come' : notAfter < now ? ', which is past' : '';
  const pathLength = authority?.pathLength;
  return [
    row(title, fromText(subject)),
    more(`issued by ${fromText(issuer)}, serial number ${serial}`),
    more(`valid from ${formatTime(notBefore)} to ${formatTime(notAfter)}${note}`),
    more(`${algorithm} key ${keyId}`),
    ...(authority === undefined
      ? []
      : [more(`an authority${pathLength === undefined ? '' : `, over at most ${pathLength} others`}`)]),
    more(`SHA-256 ${fingerprint}`),
  ];
}

const titleColumns = 16;

function row(title: string, text: string): string {
  return `${`${title}:`.padEnd(titleColumns)}${text}`;
}

function more(text: string): string {
  return `${' '.repeat(titleColumns)}${text}`;
}

function withNote(time: Date, noteworthy: boolean, note: string): string {
  return `${formatTime(time)}${noteworthy ? `, which is ${note}` : ''}`;
}

/** Text that somebody else chose, for a terminal. */
function fromText(text: string): string {
  return printable(Buffer.from(text).toString('latin1'));
}
