import {
  BasicConstraints,
  Certificate as X509,
  ExtendedKeyUsage,
  KeyUsage,
  SubjectKeyIdentifier,
  Version,
  AuthorityKeyIdentifier,
} from '@peculiar/asn1-x509';
import type { Extension } from '@peculiar/asn1-x509';
import { equalBytes, fromBase64, toHex } from '../base/bytes.ts';
import { childAt, readAsn1 } from './asn1.ts';
import { derBytes, DerInvalid } from './der.ts';
import { parseSpki } from './key.ts';
import type { HashName, PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import type { SignatureAlgorithm } from './signature-algorithm.ts';
import { AlgorithmInvalid, parseSignatureAlgorithm, verifyBy } from './signature-algorithm.ts';

/** A certificate is one or two thousand bytes. */
export const certificateBytesMax = 16_384;

/** An X.509 certificate (RFC 5280), version 3. Whether anybody trusts it is another question. */
export interface Certificate {
  readonly der: Uint8Array;
  readonly key: PublicKey;
  /** DER of the names, and hex of the serial number's bytes. */
  readonly subject: Uint8Array;
  readonly issuer: Uint8Array;
  readonly serial: string;
  /** Both ends belong to its time. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** basicConstraints; undefined for what is no authority. */
  readonly authority: { readonly pathLength: number | undefined } | undefined;
  /** keyUsage: undefined where the certificate does not limit it. */
  readonly usage: { readonly signs: boolean; readonly certifies: boolean } | undefined;
  /** Whether extendedKeyUsage, if there is one, lets the key sign code. */
  readonly signsCode: boolean;
  /** Hex of the key identifiers, where they are stated. */
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  /** Whether the key made the certificate's signature. Never throws. */
  isSignedBy(key: PublicKey): boolean;
}

/** The bytes are no certificate that is taken; the message says why. */
export class CertificateInvalid extends Error {
  override readonly name = 'CertificateInvalid';
}

const oids = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyId: '2.5.29.35',
  policyConstraints: '2.5.29.36',
  extendedKeyUsage: '2.5.29.37',
} as const;
const codeSigning = '1.3.6.1.5.5.7.3.3';
const anyPurpose = '2.5.29.37.0';

/** The bit numbers of KeyUsage (RFC 5280, section 4.2.1.3). */
const digitalSignature = 0;
const keyCertSign = 5;

/** The certificate in one block of PEM, or undefined where the text is something else. Throws CertificateInvalid. */
export function parseCertificatePem(text: string): Certificate | undefined {
  const match = /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----$/.exec(
    text.trim(),
  );
  if (match?.[1] === undefined) return undefined;
  const der = fromBase64(match[1].replaceAll(/\s+/g, ''));
  if (der === undefined) throw new CertificateInvalid('not PEM: what it holds is not base64');
  return parseCertificate(der);
}

/** The certificates in blocks of PEM, one after another. Throws CertificateInvalid, also where there is none. */
export function parseCertificateChain(text: string): readonly [Certificate, ...Certificate[]] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  const [own, ...others] = blocks.map(parseCertificatePem).filter((each) => each !== undefined);
  if (own === undefined) throw new CertificateInvalid('no certificate in PEM');
  return [own, ...others];
}

/** The certificate that the bytes hold, in DER. Throws CertificateInvalid. */
export function parseCertificate(der: Uint8Array): Certificate {
  try {
    return parse(der);
  } catch (error) {
    if (error instanceof DerInvalid || error instanceof AlgorithmInvalid || error instanceof KeyInvalid)
      throw new CertificateInvalid(error.message);
    throw error;
  }
}

function parse(der: Uint8Array): Certificate {
  const { value, root } = readAsn1(der, X509, 'a certificate', certificateBytesMax);
  const { tbsCertificate: body } = value;
  if (body.version !== Version.v3) throw new CertificateInvalid('not of version 3');
  if (body.issuerUniqueID !== undefined || body.subjectUniqueID !== undefined)
    throw new CertificateInvalid('it has unique identifiers, which are not taken');
  const signed = childAt(root, 0);
  const algorithm = parseSignatureAlgorithm(value.signatureAlgorithm);
  // What is signed names the algorithm too: the two have to be the same (RFC 5280, section 4.1.1.2).
  const outer = derBytes(der, childAt(root, 1));
  if (!equalBytes(outer, derBytes(der, childAt(signed, 2))))
    throw new CertificateInvalid('it names two algorithms for its one signature');
  const { hash } = requireHash(algorithm);
  const message = derBytes(der, signed);
  const signature = new Uint8Array(value.signatureValue);
  const notBefore = body.validity.notBefore.getTime();
  const notAfter = body.validity.notAfter.getTime();
  if (notAfter < notBefore) throw new CertificateInvalid('its time ends before it begins');
  const serial = toHex(new Uint8Array(body.serialNumber));
  if (serial.length > 40) throw new CertificateInvalid('a serial number of more than 20 bytes');
  return {
    der,
    key: parseSpki(derBytes(der, childAt(signed, 6))),
    issuer: derBytes(der, childAt(signed, 3)),
    subject: derBytes(der, childAt(signed, 5)),
    serial,
    notBefore,
    notAfter,
    ...parseExtensions(body.extensions ?? []),
    isSignedBy: (key) => verifyBy(key, algorithm, hash, message, signature),
  };
}

/** A certificate's algorithm says its hash; Ed25519 has its own. */
function requireHash({ family, hash }: SignatureAlgorithm): { hash: HashName } {
  if (hash === undefined && family !== 'ed25519')
    throw new CertificateInvalid('its signature algorithm names no hash');
  return { hash: hash ?? 'sha512' };
}

type Limits = Pick<Certificate, 'authority' | 'usage' | 'signsCode' | 'subjectKeyId' | 'authorityKeyId'>;

/**
 * What is understood of the extensions. Others are refused where they are critical, and where they would narrow what the certificate
 * is good for: name and policy constraints. Throws CertificateInvalid for those that contradict each other.
 */
function parseExtensions(extensions: readonly Extension[]): Limits {
  const values = new Map<string, Uint8Array>();
  for (const { extnID, critical, extnValue } of extensions) {
    if (values.has(extnID)) throw new CertificateInvalid(`the extension ${extnID} is there twice`);
    values.set(extnID, new Uint8Array(extnValue.buffer));
    const narrows = extnID === oids.nameConstraints || extnID === oids.policyConstraints;
    const known = Object.values(oids).some((oid) => oid === extnID) && !narrows;
    if (narrows || (critical && !known)) {
      throw new CertificateInvalid(
        `the extension ${extnID}, which is not understood and must not be ignored`,
      );
    }
  }
  const authority = readBasicConstraints(values.get(oids.basicConstraints));
  const usage = readKeyUsage(values.get(oids.keyUsage));
  if (usage?.certifies === true && authority === undefined)
    throw new CertificateInvalid('its keyUsage lets it issue certificates, and its basicConstraints do not');
  if (authority !== undefined && usage?.certifies === false)
    throw new CertificateInvalid('its basicConstraints let it issue certificates, and its keyUsage does not');
  const purposes = read(values.get(oids.extendedKeyUsage), ExtendedKeyUsage, 'extendedKeyUsage');
  if (purposes?.length === 0) throw new CertificateInvalid('an extendedKeyUsage for nothing');
  const subjectKeyId = read(values.get(oids.subjectKeyId), SubjectKeyIdentifier, 'subjectKeyIdentifier');
  const authorityKeyId = read(
    values.get(oids.authorityKeyId),
    AuthorityKeyIdentifier,
    'authorityKeyIdentifier',
  )?.keyIdentifier;
  return {
    authority,
    usage,
    signsCode: purposes?.some((purpose) => purpose === codeSigning || purpose === anyPurpose) ?? true,
    subjectKeyId: subjectKeyId && toHex(new Uint8Array(subjectKeyId.buffer)),
    authorityKeyId: authorityKeyId && toHex(new Uint8Array(authorityKeyId.buffer)),
  };
}

function readBasicConstraints(bytes: Uint8Array | undefined): Certificate['authority'] {
  const constraints = read(bytes, BasicConstraints, 'basicConstraints');
  if (constraints === undefined) return undefined;
  const { cA, pathLenConstraint } = constraints;
  if (!cA && pathLenConstraint !== undefined)
    throw new CertificateInvalid('a pathLenConstraint for what is no authority');
  if (pathLenConstraint !== undefined && !(pathLenConstraint >= 0 && pathLenConstraint < 256))
    throw new CertificateInvalid('a pathLenConstraint that is not within 0 to 255');
  return cA ? { pathLength: pathLenConstraint } : undefined;
}

function readKeyUsage(bytes: Uint8Array | undefined): Certificate['usage'] {
  const usage = read(bytes, KeyUsage, 'keyUsage');
  if (usage === undefined) return undefined;
  const bits = new Uint8Array(usage.value);
  const has = (bit: number): boolean => ((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0;
  if (bits.every((byte) => byte === 0)) throw new CertificateInvalid('a keyUsage for nothing');
  return { signs: has(digitalSignature), certifies: has(keyCertSign) };
}

function read<Value>(bytes: Uint8Array | undefined, type: new () => Value, what: string): Value | undefined {
  return bytes && readAsn1(bytes, type, what, certificateBytesMax).value;
}
