import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addInspectCommand } from '../../../src/cli/image-commands/inspect.ts';
import { digestFromBytes } from '../../../src/base/digest.ts';
import type { Certificate } from '../../../src/trust/certificate.ts';
import { parseCertificate } from '../../../src/trust/certificate.ts';
import { formatEnvelope } from '../../../src/trust/dsse.ts';
import { signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { addSignature, signStatement } from '../../../src/trust/sign.ts';
import { sshFingerprint } from '../../../src/trust/ssh-signature.ts';
import { makeCertificate, newKey } from '../../support/certificates.ts';
import { sshVectors } from '../trust/ssh-vectors.ts';
import type { Outcome } from './tool-program.ts';
import { run } from './tool-program.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(7));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-inspect-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function inspect(bytes: Uint8Array | string, ...more: readonly string[]): Promise<Outcome> {
  const path = join(folder, 'signature');
  writeFileSync(path, bytes);
  return run(addInspectCommand, 'inspect', path, ...more);
}

async function json(bytes: Uint8Array): Promise<unknown> {
  return JSON.parse((await inspect(bytes, '--json')).stdout);
}

describe('an envelope', () => {
  const [one, two] = [newKey('ed25519'), newKey()];
  const statement = { name: 'site/a', digest, fileSystem: 'erofs', version: 7 } as const;

  test('shows its statement and the keys that it claims', async () => {
    const whole = { ...statement, expires: new Date('2020-01-01T00:00:00Z') };
    const file = formatEnvelope(addSignature(signStatement(whole, one), whole, two));
    const { stdout, failure } = await inspect(file);
    expect(failure).toBeUndefined();
    expect(stdout.split('\n')).toEqual([
      'Format:         dsse: an envelope with a statement',
      `Digest:         ${digest}`,
      'Name:           site/a',
      'File system:    erofs',
      'Version:        7',
      'Valid from:     always',
      'Expires:        2020-01-01T00:00:00Z, which is past',
      `Signature 1:    claims the key ${one.publicKey.id}, 64 bytes`,
      expect.stringMatching(`^Signature 2: {4}claims the key ${two.publicKey.id}, (?:69|7[0-2]) bytes$`),
      '',
    ]);
    expect(await json(file)).toMatchObject({
      format: 'dsse',
      statement: { ...statement, expires: '2020-01-01T00:00:00.000Z' },
      signatures: [{ keyId: one.publicKey.id, bytes: 64 }, { keyId: two.publicKey.id }],
    });
  });

  test('cannot write to the terminal by a key ID', async () => {
    const envelope = signStatement(statement, one);
    const signatures = envelope.signatures.map((each) => ({ ...each, keyid: '\u001b[2J\u202e' }));
    const { stdout } = await inspect(formatEnvelope({ ...envelope, signatures }));
    expect(stdout).toContain(String.raw`claims the key \x1b[2J\xe2\x80\xae, 64 bytes`);
    const nobody = signatures.map((each) => ({ ...each, keyid: '' }));
    expect((await inspect(formatEnvelope({ ...envelope, signatures: nobody }))).stdout).toContain(
      'Signature 1:    names no key, 64 bytes',
    );
  });
});

describe('a signature of OpenSSH', () => {
  test.each(sshVectors)('shows its $algorithm key', async ({ algorithm, publicKey, signature }) => {
    const file = ['-----BEGIN SSH SIGNATURE-----', ...signature, '-----END SSH SIGNATURE-----\n'].join('\n');
    const fingerprint = sshFingerprint(Buffer.from(publicKey.split(' ')[1] ?? '', 'base64'));
    const { stdout } = await inspect(file);
    expect(stdout).toContain(`Key:            ${algorithm} ${fingerprint}\n`);
    expect(stdout).toMatch(/^Key ID: {9}[0-9a-f]{64}$/m);
    expect(await json(Buffer.from(file))).toMatchObject({
      format: 'ssh',
      hash: 'sha512',
      key: { fingerprint, algorithm },
    });
  });
});

describe('PKCS#7', () => {
  const root = newKey('ecdsa-p384');
  const middle = newKey('rsa');
  const signer = newKey();
  const authority = { authority: { pathLength: 1 }, usage: 0x04 } as const;
  const chain: readonly [Certificate, ...Certificate[]] = [
    parseCertificate(
      makeCertificate(signer, middle, {
        subject: 'Signer, the first\u001b',
        issuer: 'middle',
        usage: 0x80,
      }),
    ),
    parseCertificate(makeCertificate(root, root, { ...authority, subject: 'root', issuer: 'root' })),
    parseCertificate(makeCertificate(middle, root, { ...authority, subject: 'middle', issuer: 'root' })),
  ];
  const [own, top, between] = chain;

  test('shows who signed, and the way to an authority', async () => {
    const file = signDigestPkcs7(digest, signer, chain);
    const { stdout, failure } = await inspect(file);
    expect(failure).toBeUndefined();
    expect(stdout).toContain(
      [
        `Signer 1:       the certificate with serial number ${own.serial}, issued by CN=middle`,
        '                ecdsa with sha256',
        '                certificate 1, then 3, then 2, each issued by the next',
        String.raw`Certificate 1:  CN="Signer, the first\x1b"`,
        `                issued by CN=middle, serial number ${own.serial}`,
        '                valid from 2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z',
        `                ecdsa-p256 key ${signer.publicKey.id}`,
      ].join('\n'),
    );
    expect(stdout).toContain('                an authority, over at most 1 others\n');
    expect(await json(file)).toMatchObject({
      format: 'fsverity-pkcs7',
      signers: [
        { serial: own.serial, issuer: 'CN=middle', family: 'ecdsa', hash: 'sha256', chain: [0, 2, 1] },
      ],
      certificates: [
        { keyId: signer.publicKey.id, algorithm: 'ecdsa-p256' },
        { subject: 'CN=root', issuer: 'CN=root', serial: top?.serial, authority: { pathLength: 1 } },
        { subject: 'CN=middle', issuer: 'CN=root', serial: between?.serial },
      ],
    });
  });

  test('a chain ends where an issuer has the name only', async () => {
    const impostor = newKey();
    const named = parseCertificate(
      makeCertificate(impostor, impostor, { ...authority, subject: 'middle', issuer: 'root' }),
    );
    const file = signDigestPkcs7(digest, signer, [own, named]);
    expect(await json(file)).toMatchObject({ signers: [{ chain: [0] }] });
  });

  test('a certificate that is not taken is named with its fault, beside the others', async () => {
    const file = signDigestPkcs7(digest, signer, chain);
    // The second certificate's version 3 becomes 2: its place in the file is that of its bytes.
    const at =
      Buffer.from(file).indexOf(top?.der ?? '') + Buffer.from(top?.der ?? '').indexOf('a003020102', 'hex');
    const broken = Uint8Array.from(file);
    broken[at + 4] = 1;
    expect((await inspect(broken)).stdout).toContain('Certificate 2:  not taken: not of version 3\n');
    expect(await json(broken)).toMatchObject({
      signers: [{ chain: [0, 2] }],
      certificates: [{}, { fault: 'not of version 3' }, {}],
    });
  });
});

describe('what is not understood is named', () => {
  test.each([
    ['{}', 'an envelope (DSSE) that is not taken: payloadType is not a string'],
    [
      '{"payloadType": "text/plain", "payload": "", "signatures": [{"sig": "AAAA"}]}',
      'payloadType is not "application/vnd.in-toto+json"',
    ],
    ['{"payloadType": "a", "payloadType": "b"}', 'the member "payloadType" is there twice'],
    ['[1]', 'an envelope (DSSE) that is not taken: the envelope is not an object'],
    [
      '-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n',
      "a signature of OpenSSH's that is not taken: ",
    ],
    ['-----BEGIN PGP SIGNATURE-----\n', 'a signature of OpenPGP, a format that is not taken'],
    ['-----BEGIN PKCS7-----\n', 'PKCS#7 in PEM, where DER is wanted: openssl cms'],
    ['-----BEGIN CERTIFICATE-----\n', 'a key or a certificate, and no signature'],
    ['untrusted comment: signature\n', 'a signature of minisign or signify'],
    ['{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}', "a bundle of sigstore's"],
    ['0\u0000', 'PKCS#7 that is not taken: '],
    [Buffer.from('3080', 'hex'), 'an indefinite length at 1'],
  ])('%j', async (text, reason) => {
    const { failure, stdout } = await inspect(text);
    expect(failure).toContain(reason);
    expect(failure).toContain(join(folder, 'signature'));
    expect(stdout).toBe('');
  });

  test('an EROFS image that begins as a signature does is an image', async () => {
    const image = Buffer.alloc(8192);
    image.write('{"payloadType": 1}');
    image.writeUInt32LE(0xe0f5e1e2, 1024);
    expect((await inspect(image)).failure).not.toContain('DSSE');
  });
});
