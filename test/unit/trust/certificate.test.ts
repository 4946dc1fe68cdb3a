import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { Version } from '@peculiar/asn1-x509';
import { CertificateInvalid, parseCertificate, parseCertificatePem } from '../../../src/trust/certificate.ts';
import { makeCertificate, newKey, pemOf, type CertificateParts } from '../../support/certificates.ts';

const key = newKey();
const made = (parts: CertificateParts): Uint8Array => makeCertificate(key, key, parts);
const spkiOf = (pair: { publicKey: { export(options: object): unknown } }): Uint8Array =>
  new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' }) as Buffer);

describe('a certificate', () => {
  test.each(['rsa', 'ecdsa-p256', 'ecdsa-p384', 'ed25519'] as const)('by a key of kind %s', (kind) => {
    const signer = newKey(kind);
    const der = makeCertificate(key, signer, { usage: 0x80, authority: false });
    const certificate = parseCertificate(der);
    expect(certificate.isSignedBy(signer.publicKey)).toBe(true);
    expect(certificate.isSignedBy(key.publicKey)).toBe(false);
    expect(certificate.isSignedBy(newKey(kind).publicKey)).toBe(false);
    // OpenSSL reads the same in it.
    const theirs = new X509Certificate(der);
    expect(BigInt(`0x${certificate.serial}`)).toBe(BigInt(`0x${theirs.serialNumber}`));
    expect(certificate.notAfter).toEqual(new Date(theirs.validTo));
    expect(certificate.key.id).toBe(key.publicKey.id);
  });

  test('says what its key may be used for', () => {
    expect(parseCertificate(made({}))).toMatchObject({
      authority: undefined,
      usage: undefined,
      signsCode: true,
    });
    expect(parseCertificate(made({ authority: { pathLength: 0 }, usage: 0x04 }))).toMatchObject({
      authority: { pathLength: 0 },
      usage: { signs: false, certifies: true },
    });
    expect(parseCertificate(made({ authority: {}, usage: 0x84 }))).toMatchObject({
      authority: { pathLength: undefined },
      usage: { signs: true, certifies: true },
    });
    expect(parseCertificate(made({ purposes: ['1.3.6.1.5.5.7.3.1'] })).signsCode).toBe(false);
    expect(parseCertificate(made({ purposes: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.3'] })).signsCode).toBe(
      true,
    );
  });

  test('is read from PEM, and anything else is left alone', () => {
    const der = made({});
    expect(parseCertificatePem(pemOf(der))?.der).toEqual(der);
    expect(parseCertificatePem('ssh-ed25519 AAAA')).toBeUndefined();
    expect(() => parseCertificatePem(pemOf(der).replace('M', '='))).toThrow(CertificateInvalid);
  });

  test('whose signature was changed is signed by nobody', () => {
    const der = made({});
    der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
    expect(parseCertificate(der).isSignedBy(key.publicKey)).toBe(false);
  });
});

describe('what is refused by name', () => {
  const extension = (
    oid: string,
    critical: boolean,
    hex: string,
  ): NonNullable<CertificateParts['extensions']> => [
    { oid, critical, value: new Uint8Array(Buffer.from(hex, 'hex')) },
  ];
  test.each<[string, CertificateParts, string]>([
    ['version 1', { version: Version.v1 }, 'not of version 3'],
    ['a time that ends before it begins', { notAfter: new Date('2025-01-01T00:00:00Z') }, 'ends before it'],
    ['a path length for no authority', { extensions: extension('2.5.29.19', true, '3003020100') }, 'pathLen'],
    ['a negative path length', { extensions: extension('2.5.29.19', true, '30060101ff0201ff') }, 'pathLen'],
    ['CA:FALSE written out', { extensions: extension('2.5.29.19', true, '3003010100') }, 'basicConstraints'],
    ['bytes within an extension', { extensions: extension('2.5.29.19', true, '30000500') }, 'behind the end'],
    ['CA without keyCertSign', { authority: {}, usage: 0x80 }, 'its keyUsage does not'],
    ['keyCertSign without CA', { usage: 0x84 }, 'its basicConstraints do not'],
    ['a usage for nothing', { extensions: extension('2.5.29.15', true, '03020000') }, 'keyUsage for nothing'],
    ['an unknown critical extension', { extensions: extension('1.2.3.4', true, '0500') }, '1.2.3.4'],
    ['name constraints, critical or not', { extensions: extension('2.5.29.30', false, '3000') }, '2.5.29.30'],
    [
      'an extension twice',
      {
        authority: false,
        extensions: extension('2.5.29.19', true, '30030101ff'),
      },
      '2.5.29.19 is there twice',
    ],
    ['a serial number of 21 bytes', { serial: new Uint8Array(21).fill(1) }, 'more than 20 bytes'],
    [
      'an RSA key of 1,024 bits',
      { spki: spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 })) },
      'an RSA key of 1024 bits',
    ],
    [
      'a curve that is not taken',
      { spki: spkiOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' })) },
      'secp256k1',
    ],
    ['an Ed448 key', { spki: spkiOf(generateKeyPairSync('ed448')) }, 'ed448'],
  ])('%s', (_name, parts, message) => {
    expect(() => parseCertificate(made(parts))).toThrow(CertificateInvalid);
    expect(() => parseCertificate(made(parts))).toThrow(message);
  });

  test('thousands of small values, before they cost anything', () => {
    const value = new Uint8Array(
      Buffer.concat([Buffer.from('30820200', 'hex'), Buffer.alloc(512, '0500', 'hex')]),
    );
    const stuffed = made({ subject: 'x' });
    const nested = new Uint8Array([
      0x30,
      0x82,
      (stuffed.length + 516) >> 8,
      (stuffed.length + 516) & 0xff,
      ...stuffed,
      ...value,
    ]);
    expect(() => parseCertificate(nested)).toThrow('more than 256 values');
  });

  test('two algorithms for one signature', () => {
    const der = made({});
    // The last ecdsa-with-SHA256 (1.2.840.10045.4.3.2) is the outer one; SHA-384 it becomes.
    const at = Buffer.from(der).lastIndexOf(Buffer.from('2a8648ce3d040302', 'hex'));
    der[at + 7] = 3;
    expect(() => parseCertificate(der)).toThrow('two algorithms');
  });

  test('SHA-1', () => {
    const der = Buffer.from(made({}));
    for (;;) {
      const at = der.indexOf(Buffer.from('06082a8648ce3d040302', 'hex'));
      if (at < 0) break;
      // As long as before: ecdsa-with-SHA1 is a byte shorter, so another arc of the same length stands for it.
      Buffer.from('06082a8648ce3d040301', 'hex').copy(der, at);
    }
    expect(() => parseCertificate(new Uint8Array(der))).toThrow('1.2.840.10045.4.3.1, which is not taken');
  });

  test('bytes behind the end, and random damage, without any other error', () => {
    const der = made({ authority: {}, usage: 0x84, purposes: ['1.3.6.1.5.5.7.3.3'] });
    expect(() => parseCertificate(new Uint8Array([...der, 0]))).toThrow('1 bytes behind the end');
    for (let at = 0; at < der.length; at++) {
      for (const change of [0x01, 0x20, 0x80, 0xff]) {
        const damaged = Uint8Array.from(der);
        damaged[at] = (damaged[at] ?? 0) ^ change;
        try {
          // What is still taken is still sound only where nothing but the signature's algorithm is unsigned.
          expect(parseCertificate(damaged).isSignedBy(key.publicKey)).toBe(false);
        } catch (error) {
          expect(error).toBeInstanceOf(CertificateInvalid);
        }
      }
    }
  });
});
