import { createHash } from 'node:crypto';
import { equalBytes, toHex } from '../base/bytes.ts';
import type { Certificate } from './certificate.ts';
import { CertificateInvalid, parseCertificate } from './certificate.ts';
import { DerInvalid } from './der.ts';
import { formatName } from './distinguished-name.ts';
import { EnvelopeInvalid, inTotoPayloadType, parseEnvelope } from './dsse.ts';
import type { Pkcs7Signer } from './pkcs7-signature.ts';
import { isPkcs7Signature, parsePkcs7Signature, Pkcs7Invalid } from './pkcs7-signature.ts';
import type { HashName, KeyAlgorithm, KeyId } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { parseSshBlob } from './ssh-public-key.ts';
import { isSshSignature, parseSshSignature, sshFingerprint, SshSignatureInvalid } from './ssh-signature.ts';
import type { Statement } from './statement.ts';
import { parseStatement, StatementInvalid } from './statement.ts';

// What a signature file says, for people to look at. Nothing here is verified but who issued a certificate.

/** A signature file, taken apart. */
export type InspectedSignature =
  | {
      readonly format: 'dsse';
      readonly statement: Statement;
      /** Key IDs as claimed, which may be empty, and the signatures' lengths. */
      readonly signatures: readonly { readonly keyId: string; readonly bytes: number }[];
    }
  | {
      readonly format: 'ssh';
      readonly hash: string;
      readonly algorithm: string;
      readonly key: InspectedSshKey;
    }
  | {
      readonly format: 'fsverity-pkcs7';
      readonly signers: readonly InspectedSigner[];
      readonly certificates: readonly InspectedCertificate[];
    };

/** The key that a signature of OpenSSH's brings along. */
export interface InspectedSshKey {
  /** As `ssh-keygen -l` shows it. */
  readonly fingerprint: string;
  /** Undefined where the key is of no kind that is taken: `fault` says why. */
  readonly id: KeyId | undefined;
  readonly algorithm: KeyAlgorithm | undefined;
  readonly fault: string | undefined;
}

/** One signer of PKCS#7. */
export interface InspectedSigner {
  /** The certificate that it names, by key identifier or by serial number and issuer. */
  readonly subjectKeyId: string | undefined;
  readonly serial: string | undefined;
  readonly issuer: string | undefined;
  readonly family: 'rsa' | 'ecdsa' | 'ed25519';
  readonly hash: HashName;
  /** Whether attributes are signed, and the content by its hash among them. */
  readonly attributes: boolean;
  /**
   * From the signer's certificate up to the last one that came along, each one's issuer next: places in `certificates`,
   * from 0. Empty where the signer's is not there.
   */
  readonly chain: readonly number[];
}

/** A certificate that came along. */
export type InspectedCertificate =
  | {
      readonly fingerprint: string;
      readonly fault: undefined;
      readonly subject: string;
      readonly issuer: string;
      readonly serial: string;
      readonly notBefore: Date;
      readonly notAfter: Date;
      readonly keyId: KeyId;
      readonly algorithm: KeyAlgorithm;
      readonly authority: Certificate['authority'];
    }
  /** One that is not taken, and why. */
  | { readonly fingerprint: string; readonly fault: string };

/** The file is no signature of a format that is taken; the message says what it looks like, and why not. */
export class SignatureUnknown extends Error {
  override readonly name = 'SignatureUnknown';
}

/** What other tools write, by how it begins, and what would be taken in its place. */
const foreign: readonly (readonly [RegExp, string])[] = [
  [
    /^-----BEGIN (?:PKCS7|CMS)-----/,
    'PKCS#7 in PEM, where DER is wanted: openssl cms -cmsout -inform pem -outform der -in FILE -out FILE.der',
  ],
  [/^-----BEGIN PGP /, 'a signature of OpenPGP, a format that is not taken'],
  [/^untrusted comment:/, 'a signature of minisign or signify, a format that is not taken'],
  [
    /^\s*\{[^]*"mediaType"\s*:\s*"application\/vnd\.dev\.sigstore\.bundle/,
    "a bundle of sigstore's, of which the member dsseEnvelope alone is taken",
  ],
  [/^-----BEGIN (?:CERTIFICATE|[A-Z ]*KEY)-----/, 'a key or a certificate, and no signature'],
];

/** Whether a file that is no image is to be read as a signature: by how it begins. */
export function looksLikeSignature(head: Uint8Array): boolean {
  const text = Buffer.from(head.subarray(0, 1024)).toString('latin1');
  return isPkcs7Signature(head) || /^\s*[{[]|^-----BEGIN |^untrusted comment:/.test(text);
}

/** What a signature file says. Throws SignatureUnknown for what is not understood whole. */
export function inspectSignature(file: Uint8Array): InspectedSignature {
  const text = Buffer.from(file.subarray(0, 65_536)).toString('latin1');
  const known = foreign.find(([begin]) => begin.test(text));
  if (known !== undefined) throw new SignatureUnknown(known[1]);
  try {
    if (isSshSignature(file)) return inspectSsh(file);
    return isPkcs7Signature(file) ? inspectPkcs7(file) : inspectEnvelope(file);
  } catch (error) {
    if (error instanceof SshSignatureInvalid)
      throw new SignatureUnknown(`a signature of OpenSSH's that is not taken: ${error.message}`);
    if (error instanceof Pkcs7Invalid)
      throw new SignatureUnknown(`PKCS#7 that is not taken: ${error.message}`);
    if (error instanceof StatementInvalid)
      throw new SignatureUnknown(`an envelope whose statement is not taken: ${error.message}`);
    if (error instanceof EnvelopeInvalid)
      throw new SignatureUnknown(`an envelope (DSSE) that is not taken: ${error.message}`);
    throw error;
  }
}

function inspectEnvelope(file: Uint8Array): InspectedSignature {
  const { payloadType, payload, signatures } = parseEnvelope(file);
  if (payloadType !== inTotoPayloadType)
    throw new EnvelopeInvalid(`payloadType is not "${inTotoPayloadType}"`);
  return {
    format: 'dsse',
    statement: parseStatement(payload),
    signatures: signatures.map(({ keyid, sig }) => ({ keyId: keyid, bytes: sig.length })),
  };
}

function inspectSsh(file: Uint8Array): InspectedSignature {
  const { keyBlob, hash, algorithm } = parseSshSignature(file);
  const unknown = { fingerprint: sshFingerprint(keyBlob), id: undefined, algorithm: undefined };
  let key: InspectedSshKey;
  try {
    const claimed = parseSshBlob(keyBlob)?.key;
    key =
      claimed === undefined
        ? { ...unknown, fault: 'damaged' }
        : { ...unknown, id: claimed.id, algorithm: claimed.algorithm, fault: undefined };
  } catch (error) {
    if (!(error instanceof KeyInvalid)) throw error;
    key = { ...unknown, fault: error.message };
  }
  return { format: 'ssh', hash, algorithm, key };
}

function inspectPkcs7(file: Uint8Array): InspectedSignature {
  const { signers, certificates } = parsePkcs7Signature(file);
  const read = certificates.map(readCertificate);
  return {
    format: 'fsverity-pkcs7',
    signers: signers.map((signer) => inspectSigner(signer, read)),
    certificates: read.map((each, index) => inspectCertificate(each, certificates[index])),
  };
}

/** A certificate, or why it is not taken. */
function readCertificate(der: Uint8Array): Certificate | string {
  try {
    return parseCertificate(der);
  } catch (error) {
    if (error instanceof CertificateInvalid) return error.message;
    throw error;
  }
}

function inspectSigner(
  { claims, algorithm, hash, attributes }: Pkcs7Signer,
  certificates: readonly (Certificate | string)[],
): InspectedSigner {
  const byKeyId = 'subjectKeyId' in claims ? claims.subjectKeyId : undefined;
  const byIssuer = 'subjectKeyId' in claims ? undefined : claims;
  const own = certificates.findIndex(
    (each) =>
      typeof each !== 'string' &&
      (byIssuer === undefined
        ? each.subjectKeyId === byKeyId
        : each.serial === byIssuer.serial && equalBytes(each.issuer, byIssuer.issuer)),
  );
  return {
    subjectKeyId: byKeyId,
    serial: byIssuer?.serial,
    issuer: byIssuer && nameOf(byIssuer.issuer),
    family: algorithm.family,
    hash,
    attributes: attributes !== undefined,
    chain: chainFrom(own, certificates),
  };
}

/** Each certificate's issuer, by name and signature, among those that came along; a self-signed one ends the chain. */
function chainFrom(first: number, certificates: readonly (Certificate | string)[]): readonly number[] {
  const chain: number[] = [];
  for (let at = first; at >= 0 && !chain.includes(at); at = issuerOf(certificates[at], certificates))
    chain.push(at);
  return chain;
}

function issuerOf(
  certificate: Certificate | string | undefined,
  all: readonly (Certificate | string)[],
): number {
  if (certificate === undefined || typeof certificate === 'string') return -1;
  return all.findIndex(
    (each) =>
      typeof each !== 'string' &&
      equalBytes(each.subject, certificate.issuer) &&
      certificate.isSignedBy(each.key),
  );
}

function inspectCertificate(
  certificate: Certificate | string,
  der: Uint8Array = new Uint8Array(),
): InspectedCertificate {
  const fingerprint = createHash('sha256').update(der).digest('hex');
  if (typeof certificate === 'string') return { fingerprint, fault: certificate };
  const { subject, issuer, serial, notBefore, notAfter, key, authority } = certificate;
  return {
    fingerprint,
    fault: undefined,
    ...{ subject: nameOf(subject), issuer: nameOf(issuer), serial, notBefore, notAfter },
    ...{ keyId: key.id, algorithm: key.algorithm, authority },
  };
}

/** The name, or its bytes where it is none: what a certificate claims to be called is no reason to refuse the whole file. */
function nameOf(der: Uint8Array): string {
  try {
    return formatName(der);
  } catch (error) {
    if (error instanceof DerInvalid) return `#${toHex(der)}`;
    throw error;
  }
}
