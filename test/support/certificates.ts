import { generateKeyPairSync } from 'node:crypto';
import { AsnConvert, BitString, OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  BasicConstraints,
  Certificate as X509,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  KeyUsage,
  Name,
  RelativeDistinguishedName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import { parsePrivateKey, type PrivateKey } from '../../src/trust/private-key.ts';
import type { HashName } from '../../src/trust/public-key.ts';
import { signatureOid } from '../../src/trust/signature-algorithm.ts';

/** A key of the kind, RSA of 2,048 bits. */
export function newKey(kind: 'rsa' | 'ecdsa-p256' | 'ecdsa-p384' | 'ed25519' = 'ecdsa-p256'): PrivateKey {
  const { privateKey } =
    kind === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : kind === 'ed25519'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('ec', { namedCurve: kind === 'ecdsa-p256' ? 'prime256v1' : 'secp384r1' });
  return parsePrivateKey(String(privateKey.export({ format: 'pem', type: 'pkcs8' })));
}

/** What a certificate is to say; each may be wrong. */
export interface CertificateParts {
  readonly subject?: string;
  readonly issuer?: string;
  readonly serial?: Uint8Array;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** basicConstraints: absent, CA:FALSE, or an authority with or without path length. */
  readonly authority?: false | { readonly pathLength?: number };
  /** The first byte of keyUsage: 0x80 signs, 0x04 certifies. */
  readonly usage?: number;
  readonly purposes?: readonly string[];
  readonly extensions?: readonly {
    readonly oid: string;
    readonly critical: boolean;
    readonly value: Uint8Array;
  }[];
  readonly version?: Version;
  /** SPKI to certify in place of the key's. */
  readonly spki?: Uint8Array;
}

let serials = 1;

/** DER of a certificate for `key`, signed by `by`. */
export function makeCertificate(key: PrivateKey, by: PrivateKey, parts: CertificateParts): Uint8Array {
  const hash: HashName = 'sha256';
  const signatureAlgorithm = new AlgorithmIdentifier({
    algorithm: signatureOid(by.publicKey.algorithm, hash),
    ...(by.publicKey.algorithm === 'rsa' && { parameters: null }),
  });
  const serial = parts.serial ?? new Uint8Array([1, serials >> 8, serials++ & 0xff]);
  const body = new TBSCertificate({
    version: parts.version ?? Version.v3,
    serialNumber: serial.slice().buffer,
    signature: signatureAlgorithm,
    issuer: nameOf(parts.issuer ?? 'issuer'),
    subject: nameOf(parts.subject ?? 'subject'),
    validity: new Validity({
      notBefore: parts.notBefore ?? new Date('2026-01-01T00:00:00Z'),
      notAfter: parts.notAfter ?? new Date('2027-01-01T00:00:00Z'),
    }),
    subjectPublicKeyInfo: AsnConvert.parse(parts.spki ?? key.publicKey.spki, SubjectPublicKeyInfo),
    extensions: new Extensions(extensionsOf(parts)),
  });
  const signed = new Uint8Array(AsnConvert.serialize(body));
  const certificate = new X509({
    tbsCertificate: body,
    signatureAlgorithm,
    signatureValue: by.signHashed(hash, signed).slice().buffer,
  });
  return new Uint8Array(AsnConvert.serialize(certificate));
}

/** PEM of a certificate. */
export function pemOf(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function nameOf(common: string): Name {
  const value = new AttributeValue({ utf8String: common });
  return new Name([new RelativeDistinguishedName([new AttributeTypeAndValue({ type: '2.5.4.3', value })])]);
}

function extensionsOf({ authority, usage, purposes, extensions = [] }: CertificateParts): Extension[] {
  const made: Extension[] = [];
  const add = (extnID: string, critical: boolean, value: Uint8Array): void => {
    made.push(new Extension({ extnID, critical, extnValue: new OctetString(value) }));
  };
  if (authority !== undefined) {
    const constraints =
      authority === false
        ? new BasicConstraints({ cA: false })
        : new BasicConstraints({
            cA: true,
            ...(authority.pathLength !== undefined && { pathLenConstraint: authority.pathLength }),
          });
    add('2.5.29.19', true, new Uint8Array(AsnConvert.serialize(constraints)));
  }
  if (usage !== undefined) {
    const bits = new BitString(new Uint8Array([usage]).buffer, 0);
    add('2.5.29.15', true, new Uint8Array(AsnConvert.serialize(new KeyUsage(bits.value))));
  }
  if (purposes !== undefined)
    add('2.5.29.37', false, new Uint8Array(AsnConvert.serialize(new ExtendedKeyUsage([...purposes]))));
  for (const { oid, critical, value } of extensions) add(oid, critical, value);
  return made;
}
