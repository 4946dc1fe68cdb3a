import { createHash, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fromHex, toBase64, toHex } from '../../../src/base/bytes.ts';
import { parsePublicKey, parseSpki } from '../../../src/trust/key.ts';
import { parseKeyId } from '../../../src/trust/key-id.ts';
import { KeyInvalid } from '../../../src/trust/public-key.ts';
import {
  generatedAlgorithms,
  generateKeyPair,
  isEncryptedPrivateKey,
  parsePrivateKey,
} from '../../../src/trust/private-key.ts';

/** RFC 8032, section 7.1, tests 1, 2, 3 and SHA(abc). */
const rfc8032 = [
  {
    publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    message: '',
    signature:
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155' +
      '5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  },
  {
    publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    message: '72',
    signature:
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da' +
      '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  },
  {
    publicKey: 'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    message: 'af82',
    signature:
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac' +
      '18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  },
  {
    publicKey: 'ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf',
    message:
      'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a' +
      '2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
    signature:
      'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589' +
      '09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704',
  },
] as const;
const [, second] = rfc8032;

/** The order of the base point, RFC 8032, section 5.1. */
const order = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;

function bytes(hex: string): Uint8Array {
  const found = fromHex(hex);
  if (found === undefined) throw new TypeError('not hexadecimal');
  return found;
}

function spkiOf(point: Uint8Array): Uint8Array {
  return new Uint8Array([...bytes('302a300506032b6570032100'), ...point]);
}

function opensshOf(point: Uint8Array): string {
  const blob = new Uint8Array([0, 0, 0, 11, ...Buffer.from('ssh-ed25519'), 0, 0, 0, 32, ...point]);
  return `ssh-ed25519 ${toBase64(blob)} somebody@example.org`;
}

describe('a public key', () => {
  const { publicPem, publicKey } = generateKeyPair();

  test('is the same in PEM, OpenSSH and base64', () => {
    expect(publicKey.id).toBe(createHash('sha256').update(publicKey.spki).digest('hex'));
    expect(parsePublicKey(publicPem).id).toBe(publicKey.id);
    expect(parsePublicKey(`\r\n${publicPem.replaceAll('\n', '\r\n')}`).id).toBe(publicKey.id);
    expect(parsePublicKey(toBase64(publicKey.spki)).id).toBe(publicKey.id);
    expect(parsePublicKey(opensshOf(publicKey.spki.subarray(12))).id).toBe(publicKey.id);
  });

  test('is taken from a certificate', () => {
    // Made by `openssl req -x509 -newkey ed25519 -nodes -subj /CN=example -days 36500`.
    const certificate = [
      '-----BEGIN CERTIFICATE-----',
      'MIIBOjCB7aADAgECAhR/AUoqf/+dthV1CoggF0iVTbeX1jAFBgMrZXAwEjEQMA4G',
      'A1UEAwwHZXhhbXBsZTAgFw0yNjExMjEwOTQyNTRaGA8yMTI2MTAyODA5NDI1NFow',
      'EjEQMA4GA1UEAwwHZXhhbXBsZTAqMAUGAytlcAMhAD2dftMFUopf4p0eHr2rgaud',
      'mIK7kVc4soYNx67Vuekgo1MwUTAdBgNVHQ4EFgQUKFLDGQVpYAU8QeMGQew1I/Qh',
      '3kYwHwYDVR0jBBgwFoAUKFLDGQVpYAU8QeMGQew1I/Qh3kYwDwYDVR0TAQH/BAUw',
      'AwEB/zAFBgMrZXADQQC/M4VKRxoIdx9iJfSJ2m/W2Srz6bDBL7DbDOmjmrAbKa3C',
      '9Y4Lm9JM7v08K5YSGD3IKUKbHcopfBmVWC65RFMG',
      '-----END CERTIFICATE-----',
    ].join('\n');
    expect(parsePublicKey(certificate).id).toBe(
      'ffaeda922ee532f08ef9137d4d172cf9ac59af0a61ddbae6cfa19b2af3deba90',
    );
  });

  test.each(rfc8032)('verifies what RFC 8032 says it does, and nothing else: $message', (vector) => {
    const key = parseSpki(spkiOf(bytes(vector.publicKey)));
    const message = bytes(vector.message);
    const signature = bytes(vector.signature);
    expect(key.verify(message, signature)).toBe(true);
    expect(key.verify(new Uint8Array([...message, 0]), signature)).toBe(false);
    for (let at = 0; at < 64; at++) {
      expect(key.verify(message, signature.with(at, (signature[at] ?? 0) ^ 1))).toBe(false);
    }
    for (const length of [0, 1, 63, 65]) expect(key.verify(message, new Uint8Array(length))).toBe(false);
  });

  test('takes only one form of a signature: S is below the order', () => {
    const key = parseSpki(spkiOf(bytes(second.publicKey)));
    const signature = bytes(second.signature);
    const s = BigInt(`0x${toHex(signature.slice(32).reverse())}`) + order;
    const malleable = new Uint8Array([
      ...signature.subarray(0, 32),
      ...bytes(s.toString(16).padStart(64, '0')).reverse(),
    ]);
    expect(key.verify(bytes(second.message), malleable)).toBe(false);
  });

  test.each([
    ['the neutral element', `01${'00'.repeat(31)}`],
    ['a point of order 2', `ec${'ff'.repeat(30)}7f`],
    ['a point of order 4', '00'.repeat(32)],
    ['a point of order 8', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
    ['no point of the curve', `02${'00'.repeat(31)}`],
    ['a form that is not canonical', `ee${'ff'.repeat(30)}7f`],
    ['a form with a stray sign', `01${'00'.repeat(30)}80`],
  ])('is not %s', (_what, hex) => {
    expect(() => parseSpki(spkiOf(bytes(hex)))).toThrow(KeyInvalid);
    expect(() => parsePublicKey(opensshOf(bytes(hex)))).toThrow(KeyInvalid);
  });

  test.each([
    ['nothing', '', 'neither PEM'],
    ['a word', 'no key', 'neither PEM'],
    ['base64 of something else', 'AAAA', 'damaged'],
    ['a private key', generateKeyPair().privatePem, 'a private key'],
    ['two blocks of PEM', publicPem + publicPem, 'not a single block'],
    ['PEM of another kind', '-----BEGIN X-----\nAAAA\n-----END X-----', 'PEM of kind "X"'],
    ['PEM cut off', publicPem.slice(0, 60), 'not a single block'],
    ['a line of OpenSSH cut short', opensshOf(publicKey.spki.subarray(12)).slice(0, 40), 'ssh-ed25519'],
    ['two lines of OpenSSH', `${opensshOf(publicKey.spki.subarray(12))}\n`.repeat(2), 'more than one line'],
    ['RSA of OpenSSH cut short', 'ssh-rsa AAAAB3NzaC1yc2E=', 'not the base64 of an ssh-rsa key'],
    ['DSA of OpenSSH', 'ssh-dss AAAAB3NzaC1kc3M=', 'a key of kind ssh-dss'],
    ['a key on hardware', 'sk-ssh-ed25519@openssh.com AAAA', 'a key of kind sk-ssh-ed25519@openssh.com'],
    [
      'a certificate of OpenSSH',
      'ssh-ed25519-cert-v01@openssh.com AAAA',
      'a key of kind ssh-ed25519-cert-v01@openssh.com',
    ],
    ['a key with bytes behind it', toBase64(new Uint8Array([...publicKey.spki, 0])), 'not canonical DER'],
    ['a file too long', ' '.repeat(16_385), 'longer than'],
  ])('is not %s', (_what, text, expected) => {
    expect(() => parsePublicKey(text)).toThrow(KeyInvalid);
    expect(() => parsePublicKey(text)).toThrow(expected);
  });

  test('of another algorithm is refused by its name', () => {
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey;
    const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey;
    const x25519 = generateKeyPairSync('x25519').publicKey;
    for (const key of [p521, pss, x25519]) {
      const pem = String(key.export({ format: 'pem', type: 'spki' }));
      expect(() => parsePublicKey(pem)).toThrow(`a key of kind ${key.asymmetricKeyType ?? ''}`);
    }
  });
});

test('a key ID is 64 lower-case digits', () => {
  expect(parseKeyId('a'.repeat(64))).toBe('a'.repeat(64));
  for (const text of ['', 'a'.repeat(63), 'A'.repeat(64), 'g'.repeat(64), `${'a'.repeat(64)}\n`]) {
    expect(parseKeyId(text)).toBeUndefined();
  }
});

describe('a private key', () => {
  test('signs as node:crypto does', () => {
    const { privatePem, publicKey } = generateKeyPair();
    const key = parsePrivateKey(privatePem);
    const message = new Uint8Array([1, 2, 3]);
    expect(key.publicKey.id).toBe(publicKey.id);
    expect(toHex(key.sign(message))).toBe(toHex(sign(null, message, createPrivateKey(privatePem))));
    expect(publicKey.verify(message, key.sign(message))).toBe(true);
  });

  test('is taken with its passphrase only', () => {
    for (const algorithm of generatedAlgorithms) {
      const { privatePem, publicKey } = generateKeyPair(algorithm, 'open');
      expect(isEncryptedPrivateKey(privatePem)).toBe(true);
      expect(parsePrivateKey(privatePem, 'open').publicKey.id).toBe(publicKey.id);
      expect(() => parsePrivateKey(privatePem)).toThrow('needs its passphrase');
      expect(() => parsePrivateKey(privatePem, 'shut')).toThrow('not the right one');
    }
    const { privatePem } = generateKeyPair();
    expect(isEncryptedPrivateKey(privatePem)).toBe(false);
    expect(() => parsePrivateKey(privatePem, 'open')).toThrow('is not encrypted');
  });

  test.each([
    ['nothing', '', 'not a private key'],
    ['a public key', generateKeyPair().publicPem, 'a public key'],
    ['an encrypted key', '-----BEGIN ENCRYPTED PRIVATE KEY-----', 'encrypted'],
    ['a key of OpenSSH', '-----BEGIN OPENSSH PRIVATE KEY-----', 'OpenSSH'],
    [
      'a key of a curve that is not taken',
      String(
        generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey.export({
          format: 'pem',
          type: 'pkcs8',
        }),
      ),
      'secp521r1',
    ],
  ])('is not %s', (_what, text, expected) => {
    expect(() => parsePrivateKey(text)).toThrow(KeyInvalid);
    expect(() => parsePrivateKey(text)).toThrow(expected);
  });
});
