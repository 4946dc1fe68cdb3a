import { createHash } from 'node:crypto';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import {
  Attribute,
  CertificateChoices,
  CertificateSet,
  CMSVersion,
  ContentInfo,
  EncapsulatedContent,
  SignedData,
  DigestAlgorithmIdentifier,
  SignatureAlgorithmIdentifier,
  type SignerInfo,
} from '@peculiar/asn1-cms';
import { Certificate as X509 } from '@peculiar/asn1-x509';
import { describe, expect, test } from 'vitest';
import { concatBytes, toHex } from '../../../src/base/bytes.ts';
import { digestFromBytes, type Digest } from '../../../src/base/digest.ts';
import { parseCertificate, type Certificate } from '../../../src/trust/certificate.ts';
import { formattedDigest, parsePkcs7Signature, Pkcs7Invalid } from '../../../src/trust/pkcs7-signature.ts';
import type { PrivateKey } from '../../../src/trust/private-key.ts';
import { signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { verifySignatures, type Verification } from '../../../src/trust/verify.ts';
import { makeCertificate, newKey, type CertificateParts } from '../../support/certificates.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(7));
const other = digestFromBytes(new Uint8Array(32).fill(8));

interface Holder {
  readonly key: PrivateKey;
  readonly certificate: Certificate;
}

function holder(parts: CertificateParts = {}, by?: Holder, kind?: Parameters<typeof newKey>[0]): Holder {
  const key = newKey(kind);
  const der = makeCertificate(key, by?.key ?? key, parts);
  return { key, certificate: parseCertificate(der) };
}

const signed = ({ key, certificate }: Holder, ...chain: readonly Holder[]): Uint8Array =>
  signDigestPkcs7(digest, key, [certificate, ...chain.map((each) => each.certificate)]);

function verify(
  file: Uint8Array | readonly Uint8Array[],
  direct: readonly Holder[],
  authorities: readonly Holder[] = [],
  of: Digest = digest,
): Verification {
  return verifySignatures(
    file instanceof Uint8Array ? [file] : file,
    of,
    [],
    [
      ...direct.map(({ certificate }) => ({ certificate, authority: false })),
      ...authorities.map(({ certificate }) => ({ certificate, authority: true })),
    ],
  );
}

/** The file with its SignedData changed. */
function changed(file: Uint8Array, change: (data: SignedData, signer: SignerInfo) => void): Uint8Array {
  const outer = AsnConvert.parse(file, ContentInfo);
  const data = AsnConvert.parse(outer.content, SignedData);
  const [signer] = data.signerInfos;
  if (signer === undefined) throw new RangeError('nobody signed');
  change(data, signer);
  outer.content = AsnConvert.serialize(data);
  return new Uint8Array(AsnConvert.serialize(outer));
}

const octets = (bytes: Uint8Array): ArrayBuffer => AsnConvert.serialize(new OctetString(bytes));
const dataOid = new Uint8Array(Buffer.from('06092a864886f70d010701', 'hex')).buffer;
const contentType = (): Attribute =>
  new Attribute({ attrType: '1.2.840.113549.1.9.3', attrValues: [dataOid] });
const messageDigest = (of: Digest): Attribute => {
  const hash = createHash('sha256').update(formattedDigest(of)).digest();
  return new Attribute({ attrType: '1.2.840.113549.1.9.4', attrValues: [octets(hash)] });
};

/** Signs attributes in place of the content. */
function withAttributes(who: Holder, attributes: readonly Attribute[]): Uint8Array {
  return changed(signed(who), (_data, signer) => {
    const each = attributes.map((attribute) => Buffer.from(AsnConvert.serialize(attribute)));
    const body = concatBytes(...each);
    const length = body.length < 128 ? [body.length] : [0x81, body.length];
    signer.signedAttrs = [...attributes];
    signer.signature = new OctetString(
      who.key.signHashed('sha256', concatBytes(new Uint8Array([0x31, ...length]), body)),
    );
  });
}

test('what is signed is the struct of the kernel', () => {
  expect(toHex(formattedDigest(digest))).toBe(`465356657269747901002000${'07'.repeat(32)}`);
});

describe('a certificate that is itself trusted', () => {
  test.each(['rsa', 'ecdsa-p256', 'ecdsa-p384', 'ed25519'] as const)('signs by a key of kind %s', (kind) => {
    const one = holder({}, undefined, kind);
    const file = signed(one);
    const { keys, notBefore, notAfter } = { ...one.certificate, keys: [one.certificate.key.id] };
    expect(verify(file, [one])).toEqual({
      statements: [],
      digestSignatures: [
        {
          format: 'fsverity-pkcs7',
          signers: keys,
          unknownKeyIds: [],
          paths: [{ anchor: keys[0], keys, notBefore, notAfter }],
        },
      ],
      faults: [],
    });
    expect(verify(file, [one], [], other).faults).toEqual([
      expect.stringContaining(`does not verify over the digest ${other}`),
    ]);
    expect(verify(file, [], [], digest).digestSignatures).toMatchObject([
      { signers: [], unknownKeyIds: [one.certificate.key.id], paths: [] },
    ]);
  });

  test('need not come along', () => {
    const one = holder();
    const file = changed(signed(one), (data) => {
      delete data.certificates;
    });
    expect(verify(file, [one]).digestSignatures[0]?.signers).toEqual([one.certificate.key.id]);
    expect(verify(file, []).digestSignatures[0]?.unknownKeyIds).toEqual([
      `the certificate with serial number ${one.certificate.serial}`,
    ]);
  });

  test('speaks for no other certificate, not even of its own key', () => {
    const one = holder({ notAfter: new Date('2026-02-01T00:00:00Z') });
    const renewed = parseCertificate(makeCertificate(one.key, one.key, { serial: new Uint8Array([9]) }));
    const file = signed({ key: one.key, certificate: renewed });
    expect(verify(file, [one]).digestSignatures).toMatchObject([{ signers: [], paths: [] }]);
  });

  test.each<[string, CertificateParts, string]>([
    ['is for issuing alone', { authority: {}, usage: 0x04 }, 'keyUsage lacks digitalSignature'],
    ['is for encrypting', { usage: 0x20 }, 'keyUsage lacks digitalSignature'],
    ['is for web servers', { purposes: ['1.3.6.1.5.5.7.3.1'] }, 'extendedKeyUsage lacks codeSigning'],
  ])('does not sign where it %s', (_name, parts, fault) => {
    const one = holder(parts);
    const { digestSignatures, faults } = verify(signed(one), [one]);
    expect(digestSignatures).toMatchObject([{ signers: [], paths: [] }]);
    expect(faults).toEqual([expect.stringContaining(fault)]);
  });
});

describe('what an authority issued', () => {
  const authority = { authority: {}, usage: 0x04, subject: 'root' } as const;
  const leaf = { usage: 0x80, authority: false, issuer: 'root' } as const;

  test('speaks for it, for as long as all certificates on the way are valid', () => {
    const root = holder({ ...authority, notAfter: new Date('2030-01-01T00:00:00Z') });
    const middle = holder(
      {
        authority: {},
        usage: 0x04,
        subject: 'middle',
        issuer: 'root',
        notAfter: new Date('2026-07-01T00:00:00Z'),
      },
      root,
    );
    const one = holder({ ...leaf, issuer: 'middle', notBefore: new Date('2026-03-01T00:00:00Z') }, middle);
    const keys = [one, middle, root].map(({ certificate }) => certificate.key.id);
    expect(verify(signed(one, middle), [], [root]).digestSignatures).toMatchObject([
      {
        signers: [root.certificate.key.id],
        paths: [
          { anchor: keys[2], keys, notBefore: new Date('2026-03-01Z'), notAfter: new Date('2026-07-01Z') },
        ],
      },
    ]);
    // Without the one in between, or with the authority trusted for itself alone, it leads nowhere.
    expect(verify(signed(one), [], [root]).digestSignatures).toMatchObject([{ signers: [] }]);
    expect(verify(signed(one, middle), [root]).digestSignatures).toMatchObject([{ signers: [] }]);
    // An authority in between may be the one that is trusted.
    expect(verify(signed(one, middle), [], [middle]).digestSignatures).toMatchObject([
      { signers: [middle.certificate.key.id] },
    ]);
  });

  test.each<[string, CertificateParts, CertificateParts, string]>([
    [
      'an anchor that is no authority',
      { ...authority, authority: false, usage: 0x80 },
      leaf,
      'is no authority',
    ],
    ['an anchor without constraints', { subject: 'root' }, leaf, 'is no authority'],
    ['a leaf without keyUsage', authority, { issuer: 'root' }, 'has no keyUsage'],
    ['a leaf for something else', authority, { ...leaf, usage: 0x20 }, 'lacks digitalSignature'],
    [
      'an authority for web servers',
      { ...authority, purposes: ['1.3.6.1.5.5.7.3.1'] },
      leaf,
      'not for signing code',
    ],
  ])('is refused below %s', (_name, top, bottom, fault) => {
    const root = holder(top);
    const one = holder(bottom, root);
    const { digestSignatures, faults } = verify(signed(one), [], [root]);
    expect(digestSignatures).toMatchObject([{ signers: [], paths: [] }]);
    expect(faults).toEqual([expect.stringContaining(fault)]);
  });

  test('is refused where another key signed it', () => {
    const root = holder(authority);
    const impostor = holder(authority);
    const one = holder(leaf, impostor);
    expect(verify(signed(one), [], [root])).toMatchObject({
      digestSignatures: [{ signers: [] }],
      faults: [expect.stringContaining('was not signed by the issuer that it names')],
    });
  });

  test('is refused beyond the path length, and below what is no authority', () => {
    const root = holder({ ...authority, authority: { pathLength: 0 } });
    const middle = (parts: CertificateParts): Holder =>
      holder({ authority: {}, usage: 0x04, subject: 'middle', issuer: 'root', ...parts }, root);
    const below = (issuer: Holder): Holder => holder({ ...leaf, issuer: 'middle' }, issuer);
    const proper = middle({});
    expect(verify(signed(below(proper), proper), [], [root]).faults).toEqual([
      expect.stringContaining('allows 0 certificates between itself'),
    ]);
    const wide = holder({ ...authority, authority: { pathLength: 1 } });
    const lay = holder({ authority: false, usage: 0x80, subject: 'middle', issuer: 'root' }, wide);
    expect(verify(signed(below(lay), lay), [], [wide]).faults).toEqual([
      expect.stringContaining('is no authority'),
    ]);
  });

  test('is found by any of several ways, and never by a circle', () => {
    const first = holder({ ...authority, subject: 'a', issuer: 'b' });
    const second = holder({ ...authority, subject: 'b', issuer: 'a' }, first);
    const cross = {
      key: first.key,
      certificate: parseCertificate(
        makeCertificate(first.key, second.key, { ...authority, subject: 'a', issuer: 'b' }),
      ),
    };
    const one = holder({ ...leaf, issuer: 'a' }, first);
    expect(verify(signed(one, cross, second), [], [first, second]).digestSignatures[0]?.signers).toEqual([
      first.certificate.key.id,
      second.certificate.key.id,
    ]);
    expect(verify(signed(one, cross, second), []).digestSignatures[0]?.signers).toEqual([]);
  });
});

describe('signed attributes', () => {
  const one = holder();
  const signers = (file: Uint8Array): readonly string[] | undefined =>
    verify(file, [one]).digestSignatures[0]?.signers;

  test('of the type and the hash of the content hold', () => {
    expect(signers(withAttributes(one, [contentType(), messageDigest(digest)]))).toEqual([
      one.certificate.key.id,
    ]);
  });

  test('with another hash do not', () => {
    const file = withAttributes(one, [contentType(), messageDigest(other)]);
    expect(verify(file, [one])).toMatchObject({
      digestSignatures: [],
      faults: [expect.stringContaining('does not verify over the digest')],
    });
  });

  test.each<[string, readonly Attribute[], string]>([
    ['without a hash', [contentType()], 'without contentType or messageDigest'],
    ['without a type', [messageDigest(digest)], 'without contentType or messageDigest'],
    [
      'of another type',
      [
        new Attribute({
          attrType: '1.2.840.113549.1.9.3',
          attrValues: [new Uint8Array(Buffer.from('06092a864886f70d010702', 'hex')).buffer],
        }),
        messageDigest(digest),
      ],
      'of another type than data',
    ],
    ['twice', [contentType(), messageDigest(digest), messageDigest(digest)], 'more or less than once'],
    [
      'with two values',
      [
        contentType(),
        new Attribute({
          attrType: '1.2.840.113549.1.9.4',
          attrValues: [octets(new Uint8Array(32)), octets(new Uint8Array(32))],
        }),
      ],
      'more or less than once',
    ],
    [
      'that are not understood',
      [
        contentType(),
        messageDigest(digest),
        new Attribute({ attrType: '1.2.840.113549.1.9.16.2.47', attrValues: [octets(new Uint8Array())] }),
      ],
      '1.2.840.113549.1.9.16.2.47, which is not understood',
    ],
  ])('%s are refused', (_name, attributes, fault) => {
    const file = withAttributes(one, attributes);
    expect(() => parsePkcs7Signature(file)).toThrow(Pkcs7Invalid);
    expect(() => parsePkcs7Signature(file)).toThrow(fault);
  });

  test('are no content: a signature over them does not hold without them', () => {
    const file = changed(withAttributes(one, [contentType(), messageDigest(digest)]), (_data, signer) => {
      delete signer.signedAttrs;
    });
    expect(verify(file, [one])).toMatchObject({ digestSignatures: [] });
  });
});

describe('what is refused by name', () => {
  const one = holder();
  const base = signed(one);
  const hash = (algorithm: string): DigestAlgorithmIdentifier => new DigestAlgorithmIdentifier({ algorithm });
  const scheme = (algorithm: string): SignatureAlgorithmIdentifier =>
    new SignatureAlgorithmIdentifier({ algorithm });
  test.each<[string, (data: SignedData, signer: SignerInfo) => void, string]>([
    [
      'content that came along',
      ({ encapContentInfo }) => {
        encapContentInfo.eContent = new EncapsulatedContent({ single: new OctetString([1]) });
      },
      'is to be detached',
    ],
    [
      'another type of content',
      ({ encapContentInfo }) => {
        encapContentInfo.eContentType = '1.2.3.4';
      },
      'of type 1.2.3.4, not data',
    ],
    [
      'unsigned attributes',
      (_data, signer) => {
        signer.unsignedAttrs = [contentType()];
      },
      'unsigned attributes',
    ],
    [
      'nobody',
      (data) => {
        data.signerInfos.length = 0;
      },
      'nobody has signed',
    ],
    [
      'a crowd',
      (data, signer) => {
        for (let count = 0; count < 16; count++) data.signerInfos.push(signer);
      },
      'more than 16 signers',
    ],
    [
      'SHA-1',
      (data, signer) => {
        data.digestAlgorithms[0] = signer.digestAlgorithm = hash('1.3.14.3.2.26');
      },
      'SHA-1, which is not taken',
    ],
    [
      'a hash that is not listed',
      (_data, signer) => {
        signer.digestAlgorithm = hash('2.16.840.1.101.3.4.2.3');
      },
      'does not list sha512',
    ],
    [
      'a hash for the signature and another for the content',
      (_data, signer) => {
        signer.signatureAlgorithm = scheme('1.2.840.10045.4.3.4');
      },
      'a signature with sha512 over what was hashed by sha256',
    ],
    [
      'RSASSA-PSS',
      (_data, signer) => {
        signer.signatureAlgorithm = scheme('1.2.840.113549.1.1.10');
      },
      'RSASSA-PSS, which is not taken',
    ],
    [
      'parameters',
      (_data, signer) => {
        signer.signatureAlgorithm = new SignatureAlgorithmIdentifier({
          algorithm: '1.2.840.10045.4.3.2',
          parameters: octets(new Uint8Array([1])),
        });
      },
      'with parameters',
    ],
    [
      'a version that does not fit',
      (data) => {
        data.version = CMSVersion.v3;
      },
      'version 3, which does not fit',
    ],
    [
      'nine certificates',
      (data) => {
        const certificate = AsnConvert.parse(one.certificate.der, X509);
        data.certificates = new CertificateSet(
          Array.from({ length: 9 }, () => new CertificateChoices({ certificate })),
        );
      },
      '9 certificates, where 8 are taken',
    ],
  ])('%s', (_name, change, fault) => {
    const file = changed(base, change);
    expect(() => parsePkcs7Signature(file)).toThrow(Pkcs7Invalid);
    expect(() => parsePkcs7Signature(file)).toThrow(fault);
    expect(verify(file, [one])).toMatchObject({ digestSignatures: [], faults: [expect.any(String)] });
  });

  test('thousands of certificates, before any is read', () => {
    const file = changed(base, (data) => {
      const certificate = AsnConvert.parse(one.certificate.der, X509);
      data.certificates = new CertificateSet(
        Array.from({ length: 60 }, () => new CertificateChoices({ certificate })),
      );
    });
    expect(() => parsePkcs7Signature(file)).toThrow('longer than 16128 bytes');
  });

  test('other certificates than are needed are read up to a number', () => {
    const crowd = Array.from({ length: 7 }, () => holder());
    const files = [1, 2].map(() => signed(holder(), ...crowd));
    expect(verify([...files, base], [one])).toMatchObject({
      digestSignatures: [{ signers: [one.certificate.key.id] }],
      faults: [expect.stringContaining('only the first 8 certificates were read')],
    });
  });

  test('random damage, without any other error and without being believed', () => {
    const file = withAttributes(one, [contentType(), messageDigest(digest)]);
    const certificates = {
      from: Buffer.from(file).indexOf(one.certificate.der),
      of: one.certificate.der.length,
    };
    for (let at = 0; at < file.length; at++) {
      // What is unsigned (the certificates that come along) may change without harm.
      if (at >= certificates.from - 4 && at < certificates.from + certificates.of) continue;
      const damaged = Uint8Array.from(file);
      damaged[at] = (damaged[at] ?? 0) ^ 0x41;
      expect([at, verify(damaged, [one]).digestSignatures[0]?.signers ?? []]).toEqual([at, []]);
    }
  });
});

test('several signers of a file, one of them forged, count for what they are', () => {
  const [one, two, three] = [holder(), holder(), holder()];
  const file = changed(signed(one), (data) => {
    for (const who of [two, three]) {
      const [signer] = AsnConvert.parse(
        AsnConvert.parse(signed(who), ContentInfo).content,
        SignedData,
      ).signerInfos;
      if (signer === undefined) continue;
      if (who === three) signer.signature = new OctetString(new Uint8Array(70));
      data.signerInfos.push(signer);
    }
  });
  expect(verify(file, [one, two, three])).toMatchObject({
    digestSignatures: [{ signers: [one.certificate.key.id, two.certificate.key.id] }],
    faults: [expect.stringContaining('does not verify over the digest')],
  });
});
