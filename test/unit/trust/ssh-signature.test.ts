import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { concatBytes, toBase64 } from '../../../src/base/bytes.ts';
import { digestFromBytes } from '../../../src/base/digest.ts';
import { parsePublicKey } from '../../../src/trust/key.ts';
import { generateKeyPair, parsePrivateKey } from '../../../src/trust/private-key.ts';
import { KeyInvalid } from '../../../src/trust/public-key.ts';
import { formatEnvelope } from '../../../src/trust/dsse.ts';
import { signStatement } from '../../../src/trust/sign.ts';
import {
  digestLine,
  isSshSignature,
  parseSshSignature,
  signDigest,
  sshFingerprint,
  SshSignatureInvalid,
  sshSignatureBytesMax,
  verifySshSignature,
} from '../../../src/trust/ssh-signature.ts';
import { sshPositiveInteger, sshString, sshUint32 } from '../../../src/trust/ssh-wire.ts';
import { verifySignatures } from '../../../src/trust/verify.ts';
import { armored, sshVectors } from './ssh-vectors.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(7));
const other = digestFromBytes(new Uint8Array(32).fill(8));
const pair = generateKeyPair();
const key = parsePrivateKey(pair.privatePem);

function rsaPem(bits: number, exponent = 65_537): { privatePem: string; publicPem: string } {
  const made = generateKeyPairSync('rsa', { modulusLength: bits, publicExponent: exponent });
  return {
    privatePem: String(made.privateKey.export({ format: 'pem', type: 'pkcs8' })),
    publicPem: String(made.publicKey.export({ format: 'pem', type: 'spki' })),
  };
}

/** A signature's file with single fields changed; the signature in it is over something else then. */
function fileOf(fields: {
  magic?: string;
  version?: number;
  namespace?: string;
  reserved?: string;
  hash?: string;
  inner?: Uint8Array;
  behind?: Uint8Array;
}): Uint8Array {
  const inner = concatBytes(sshString('ssh-ed25519'), sshString(new Uint8Array(64)));
  const blob = concatBytes(
    Buffer.from(fields.magic ?? 'SSHSIG'),
    sshUint32(fields.version ?? 1),
    sshString(key.publicKey.sshBlob),
    sshString(fields.namespace ?? 'cfs-mountd'),
    sshString(fields.reserved ?? ''),
    sshString(fields.hash ?? 'sha512'),
    sshString(fields.inner ?? inner),
    fields.behind ?? new Uint8Array(),
  );
  return armored(toBase64(blob).match(/.{1,70}/g) ?? []);
}

test('what is signed is one line with its newline', () => {
  expect(Buffer.from(digestLine(digest)).toString()).toBe(`fsverity-sha256-12:${'07'.repeat(32)}\n`);
});

describe.each(sshVectors)('a signature that ssh-keygen made by $algorithm', ({ algorithm, ...vector }) => {
  const publicKey = parsePublicKey(vector.publicKey);
  const file = armored(vector.signature);
  const signature = parseSshSignature(file);

  test('holds for its key and digest, and for no other', () => {
    expect(publicKey.algorithm).toBe(algorithm);
    expect(verifySshSignature(signature, digest, publicKey)).toBe(true);
    expect(verifySshSignature(signature, other, publicKey)).toBe(false);
    expect(verifySshSignature(signature, digest, key.publicKey)).toBe(false);
    const hash = signature.hash === 'sha512' ? 'sha256' : 'sha512';
    expect(verifySshSignature({ ...signature, hash }, digest, publicKey)).toBe(false);
  });

  test('is found by the key that it carries', () => {
    const known = [pair.publicKey, publicKey];
    expect(verifySignatures([file, file], digest, known)).toEqual({
      statements: [],
      digestSignatures: [{ format: 'ssh', signers: [publicKey.id], unknownKeyIds: [] }],
      faults: [],
    });
    expect(verifySignatures([file], digest, [pair.publicKey]).digestSignatures).toEqual([
      { format: 'ssh', signers: [], unknownKeyIds: [sshFingerprint(publicKey.sshBlob)] },
    ]);
    expect(verifySignatures([file], other, known).faults).toEqual([
      `the signature: the signature by key ${publicKey.id} does not verify over the digest ${other}`,
    ]);
  });

  test('holds no longer with any byte of it changed, longer or shorter', () => {
    const { signature: bytes } = signature;
    const holds = (changed: Uint8Array): boolean =>
      verifySshSignature({ ...signature, signature: changed }, digest, publicKey);
    for (let at = 0; at < bytes.length; at++) expect(holds(bytes.with(at, (bytes[at] ?? 0) ^ 1))).toBe(false);
    expect(holds(concatBytes(bytes, new Uint8Array(1)))).toBe(false);
    expect(holds(concatBytes(new Uint8Array(1), bytes))).toBe(false);
    expect(holds(bytes.subarray(1))).toBe(false);
    expect(holds(bytes.subarray(0, -1))).toBe(false);
    expect(holds(new Uint8Array())).toBe(false);
  });

  test.each(['ssh-rsa', 'rsa-sha2-256', 'ssh-ed25519', 'ecdsa-sha2-nistp521', ''])(
    'does not hold as one of %j',
    (name) => {
      if (name !== signature.algorithm)
        expect(verifySshSignature({ ...signature, algorithm: name }, digest, publicKey)).toBe(false);
    },
  );
});

describe('a signature of ours', () => {
  const rsa = rsaPem(2048);
  test.each([
    ['ed25519', pair.privatePem, pair.publicKey],
    ...(['ecdsa-p256', 'ecdsa-p384'] as const).map((algorithm) => {
      const made = generateKeyPair(algorithm);
      return [algorithm, made.privatePem, made.publicKey] as const;
    }),
    ['rsa', rsa.privatePem, parsePublicKey(rsa.publicPem)] as const,
  ] as const)('by %s is read again', (_algorithm, privatePem, publicKey) => {
    // ECDSA's r and s are shorter now and then.
    for (let round = 0; round < 20; round++) {
      const file = signDigest(digest, parsePrivateKey(privatePem));
      expect(isSshSignature(file)).toBe(true);
      expect(verifySshSignature(parseSshSignature(file), digest, publicKey)).toBe(true);
    }
  });

  test('is armored in lines as ssh-keygen makes them', () => {
    const [ed25519] = sshVectors;
    expect(
      Buffer.from(signDigest(digest, key))
        .toString()
        .split('\n')
        .slice(1, -2)
        .map((line) => line.length),
    ).toEqual(ed25519?.signature.map((line) => line.length));
  });
});

describe('a file', () => {
  const text = Buffer.from(signDigest(digest, key)).toString();
  const zero = concatBytes(sshString('ssh-ed25519'), sshString(new Uint8Array(64)));

  test('may have lines that end in CR LF, and no newline at its end', () => {
    for (const form of [text.replaceAll('\n', '\r\n'), text.trimEnd()]) {
      expect(verifySshSignature(parseSshSignature(Buffer.from(form)), digest, key.publicKey)).toBe(true);
    }
  });

  test.each([
    ['bytes before it', Buffer.from(`x\n${text}`), 'not one armored block'],
    ['bytes behind it', Buffer.from(`${text}x`), 'not one armored block'],
    ['an empty line', Buffer.from(text.replace('\n', '\n\n')), 'not one armored block'],
    ['two signatures', Buffer.from(text + text), 'not one armored block'],
    [
      'base64 that is not canonical',
      Buffer.from(text.replace(/=?\n-----END/, '!\n-----END')),
      'not one armored',
    ],
    ['nothing in it', armored([]), 'not one armored block'],
    ['too many bytes', Buffer.from(text.padEnd(sshSignatureBytesMax + 1)), 'longer than'],
    ['another magic', fileOf({ magic: 'SSHSIH' }), 'SSHSIG'],
    ['another version', fileOf({ version: 2 }), 'version 2'],
    ['another namespace', fileOf({ namespace: 'file' }), 'the namespace "file"'],
    ['no namespace', fileOf({ namespace: '' }), 'the namespace ""'],
    ['something reserved', fileOf({ reserved: 'x' }), 'reserved'],
    ['another hash', fileOf({ hash: 'sha1' }), 'the hash sha1'],
    ['a name with control characters', fileOf({ hash: 'sha512\n' }), 'not ASCII'],
    ['bytes behind the blob', fileOf({ behind: new Uint8Array(1) }), 'bytes behind'],
    ['bytes behind the signature', fileOf({ inner: concatBytes(zero, new Uint8Array(1)) }), 'bytes behind'],
    ['an absurd length', fileOf({ inner: new Uint8Array([0xff, 0xff, 0xff, 0xff]) }), 'cut short'],
    ['half of it', armored(['U1NIU0lHAAAAAQAAADMAAAAL']), 'cut short'],
  ])('with %s is refused', (_what, file, expected) => {
    expect(() => parseSshSignature(file)).toThrow(SshSignatureInvalid);
    expect(() => parseSshSignature(file)).toThrow(expected);
    if (isSshSignature(file)) {
      expect(verifySignatures([file], digest, [key.publicKey])).toMatchObject({
        digestSignatures: [],
        faults: [expect.stringMatching(/^the signature is malformed: /)],
      });
    }
  });

  test('with a forged signature proves nothing', () => {
    expect(verifySignatures([fileOf({})], digest, [key.publicKey])).toMatchObject({ digestSignatures: [] });
  });
});

describe('RSA', () => {
  test.each([
    ['1,024 bits', rsaPem(1024), 'an RSA key of 1024 bits'],
    ['an exponent of 3', rsaPem(2048, 3), 'exponent'],
  ])('with %s is no key', (_what, { publicPem, privatePem }, expected) => {
    expect(() => parsePublicKey(publicPem)).toThrow(expected);
    expect(() => parsePrivateKey(privatePem)).toThrow(KeyInvalid);
  });

  test.each([
    ['an even modulus', new Uint8Array(256).fill(0xfe), new Uint8Array([1, 0, 1])],
    ['an even exponent', new Uint8Array(256).fill(0xff), new Uint8Array([1, 0, 2])],
    ['a long exponent', new Uint8Array(256).fill(0xff), new Uint8Array(9).fill(1)],
    ['16,384 bits', new Uint8Array(2048).fill(0xff), new Uint8Array([1, 0, 1])],
  ])('with %s is no key in OpenSSH form either', (_what, modulus, exponent) => {
    const blob = concatBytes(sshString('ssh-rsa'), sshPositiveInteger(exponent), sshPositiveInteger(modulus));
    expect(() => parsePublicKey(`ssh-rsa ${toBase64(blob)}`)).toThrow(KeyInvalid);
  });

  test('is the same key in PEM and in OpenSSH form', () => {
    const publicKey = parsePublicKey(rsaPem(2048).publicPem);
    expect(parsePublicKey(`ssh-rsa ${toBase64(publicKey.sshBlob)} a@b`).id).toBe(publicKey.id);
  });

  test('signs no DSSE, and none by it holds', () => {
    const { privatePem, publicPem } = rsaPem(2048);
    const rsa = parsePrivateKey(privatePem);
    const statement = { name: 'a', digest, fileSystem: 'erofs' } as const;
    expect(() => signStatement(statement, rsa)).toThrow('--format ssh');
    const envelope = signStatement(statement, key);
    const claimed = formatEnvelope({
      ...envelope,
      signatures: [{ keyid: rsa.publicKey.id, sig: new Uint8Array(256) }],
    });
    expect(verifySignatures([claimed], digest, [parsePublicKey(publicPem)]).statements).toEqual([]);
  });
});
