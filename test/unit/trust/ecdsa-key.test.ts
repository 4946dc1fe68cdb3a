import { generateKeyPairSync } from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toBase64, toHex } from '../../../src/base/bytes.ts';
import { parsePublicKey, parseSpki } from '../../../src/trust/key.ts';
import { generateKeyPair, parsePrivateKey } from '../../../src/trust/private-key.ts';
import { KeyInvalid } from '../../../src/trust/public-key.ts';

function bytes(hex: string): Uint8Array {
  const found = fromHex(hex.toLowerCase());
  if (found === undefined) throw new TypeError('not hexadecimal');
  return found;
}

const prefixes = {
  'P-256': bytes('3059301306072a8648ce3d020106082a8648ce3d03010703420004'),
  'P-384': bytes('3076301006072a8648ce3d020106052b8104002203620004'),
};

/** DER of integers, made without the code under test. */
function derOf(...numbers: readonly string[]): Uint8Array {
  const integers = numbers.map((hex) => {
    const number = bytes(Number.parseInt(hex.slice(0, 2), 16) >= 0x80 ? `00${hex}` : hex);
    return concatBytes(new Uint8Array([2, number.length]), number);
  });
  const body = concatBytes(...integers);
  return concatBytes(new Uint8Array([0x30, body.length]), body);
}

/** RFC 6979, A.2.5 and A.2.6, message "sample", with the curve's own hash. The s of both is above half the order. */
const rfc6979 = [
  {
    curve: 'P-256',
    point:
      '60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6' +
      '7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299',
    r: 'EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716',
    s: 'F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8',
    order: 'FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551',
  },
  {
    curve: 'P-384',
    point:
      'EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13' +
      '8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720',
    r: '94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46',
    s: '99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8',
    order: 'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973',
  },
] as const;

/** `openssl dgst -sha256 -sign`, `-sha384` for P-384, over "signed by openssl", and `openssl ec -pubout` of the key. */
const openssl = [
  {
    publicKey:
      'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsnAHsTYencv8twjWhVjTNviolJZLgSKgvoQPaTiVqRU6ve14HTyneHLbO3nrqmvmxMN4BNPo' +
      'TnRDSoUk9/hgbg==',
    signature:
      'MEUCIE9n8ah2oVN2HA+z9hCTUaqnKIiecj2+99303D66SWzdAiEAwWlMcLWPdv/ukWRKYHpFT/bjvsH3DgF2bdTnBqkOqpI=',
  },
  {
    publicKey:
      'MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEOvdoVl4G6DMRngMKiumLRfX8XwnURdub/+bekQrGnrs8EsKxgpNAD0ffRzAYbyAm994n6A2B+Wch' +
      '9gWp1KbMKl437IW3seRQPKJpdZh7AgIGqjIyir9qEV4NvNDQtgAx',
    signature:
      'MGQCMAFzb0UDnSIRfb36OX8TRyG44guCiGncErwNlw98IQL5oyoIiC7aKYW6ZmN1sAvdQwIwU+f5+llZ8sWuqzvL8D2T1pqHHQU+JXyEiCCw' +
      '4kBgsocO76EUHQ94+E5+7uymZpcx',
  },
];

/** The same with SHA-256 for P-384. */
const otherHash =
  'MGYCMQCj1s8UbrGq0ytrkMp0mQzgDjLoi0hsyFAUv8ZrxN92WpIusyxQUB626ThH8nA3UWECMQCD1F/qusZcHi6X8PttqimYnZlqFQxR3ptlC45J' +
  'tKGf79y9LDieZfxoRB7zv/NE72Q=';

const sample = Buffer.from('sample');
const byOpenssl = Buffer.from('signed by openssl');

describe.each(rfc6979)('ECDSA on $curve', ({ curve, point, r, s, order }) => {
  const key = parseSpki(concatBytes(prefixes[curve], bytes(point)));

  test('verifies what RFC 6979 says, and nothing else', () => {
    const signature = derOf(r, s);
    expect(key.verify(sample, signature)).toBe(true);
    expect(key.verify(Buffer.from('Sample'), signature)).toBe(false);
    for (let at = 0; at < signature.length; at++) {
      expect(key.verify(sample, signature.with(at, (signature[at] ?? 0) ^ 1))).toBe(false);
    }
  });

  test('takes s and n - s alike, as DSSE leaves it open', () => {
    const low = (BigInt(`0x${order}`) - BigInt(`0x${s}`)).toString(16).padStart(s.length, '0');
    expect(key.verify(sample, derOf(r, low))).toBe(true);
  });

  test('takes DER in its shortest form only, of numbers in range', () => {
    const zero = '00';
    const above = (BigInt(`0x${s}`) + BigInt(`0x${order}`)).toString(16).padStart(s.length + 2, '0');
    const signature = derOf(r, s);
    const [, length = 0] = signature;
    const malformed = [
      derOf(zero, s),
      derOf(r, zero),
      derOf(r, order),
      derOf(r, above),
      derOf(`0000${r}`, s),
      derOf(r, s, '01'),
      derOf(r),
      concatBytes(signature, new Uint8Array(1)),
      concatBytes(new Uint8Array([0x30, 0x81, length]), signature.subarray(2)),
      concatBytes(new Uint8Array([0x30, 0x80]), signature.subarray(2), new Uint8Array(2)),
      bytes(r + s),
      new Uint8Array(),
      new Uint8Array(100_000).fill(0x30),
    ];
    for (const each of malformed) expect(key.verify(sample, each), toHex(each.subarray(0, 80))).toBe(false);
  });
});

test.each(openssl)('verifies what openssl signed (%#)', ({ publicKey, signature }) => {
  expect(parsePublicKey(publicKey).verify(byOpenssl, Buffer.from(signature, 'base64'))).toBe(true);
});

test('takes the hash that goes with the curve, and no other', () => {
  const publicKey = openssl[1]?.publicKey ?? '';
  expect(parsePublicKey(publicKey).verify(byOpenssl, Buffer.from(otherHash, 'base64'))).toBe(false);
});

describe('a key', () => {
  test.each(['ecdsa-p256', 'ecdsa-p384'] as const)('of %s is made, read, and signs', (algorithm) => {
    const { privatePem, publicPem, publicKey } = generateKeyPair(algorithm);
    const key = parsePrivateKey(privatePem);
    expect(parsePublicKey(publicPem)).toMatchObject({ id: publicKey.id, algorithm });
    expect(parsePublicKey(toBase64(publicKey.spki)).id).toBe(key.publicKey.id);
    expect(publicKey.verify(sample, key.sign(sample))).toBe(true);
  });

  // Made by ssh-keygen -t ecdsa; the IDs by `ssh-keygen -e -m PKCS8 -f KEY | openssl pkey -pubin -outform DER | sha256sum`.
  test.each([
    [
      'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGTzU+EAJ2w3cQELcPxkib7mBu33DhKmwxd1DTMa' +
        'dPgNQXG2XaD4XuijH2RtmM8PTlxXimGOvvxm/uh1D3YOpiU=',
      '8415b8db53d8444cef54c0f2382c2811551eea5c2d85678ec406f218f2985030',
    ],
    [
      'ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBNIHYDLZ8TGPzE56euiLDjqnN/er5lJoNjHPnRws' +
        'SqHvCDhlitJor+r0APenhp5AnjuZxxlu49A4ULA9fWw5wc1PvZU5rAkAVbgT20H3u1h+feWU/9WxlrBbqCFTTiUuhw== a@b',
      '27a5e1f366fd3c77ee49ab19ec6aa445e0d3d72c926eec8d78d7e6b9571127f4',
    ],
  ])('is taken as OpenSSH writes it (%#)', (line, id) => {
    const key = parsePublicKey(line);
    expect(key.id).toBe(id);
    expect(line).toContain(toBase64(key.sshBlob));
    expect(() => parsePublicKey(line.replace('nistp', 'nistq'))).toThrow(KeyInvalid);
  });

  test('names its curve and holds its point uncompressed', () => {
    const explicit = generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey;
    const pem = String(explicit.export({ format: 'pem', type: 'spki' }));
    expect(() => parsePublicKey(pem)).toThrow(KeyInvalid);
    // `openssl ec -pubout -conv_form compressed`
    const compressed = 'MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgACsnAHsTYencv8twjWhVjTNviolJZLgSKgvoQPaTiVqRU=';
    expect(() => parsePublicKey(compressed)).toThrow('uncompressed');
  });

  test('is a point of its curve', () => {
    const { publicKey } = generateKeyPair('ecdsa-p256');
    const last = publicKey.spki.length - 1;
    const off = publicKey.spki.with(last, (publicKey.spki[last] ?? 0) ^ 1);
    expect(() => parseSpki(off)).toThrow(KeyInvalid);
    const beyond = concatBytes(prefixes['P-256'], new Uint8Array(64).fill(0xff));
    expect(() => parseSpki(beyond)).toThrow(KeyInvalid);
    expect(() => parseSpki(concatBytes(publicKey.spki, new Uint8Array(1)))).toThrow(KeyInvalid);
  });

  test('takes what another implementation signed', () => {
    const secret = new Uint8Array(32).fill(5);
    const point = p256.getPublicKey(secret, false);
    const key = parseSpki(concatBytes(prefixes['P-256'], point.subarray(1)));
    expect(key.verify(sample, p256.sign(sample, secret, { format: 'der', lowS: false }))).toBe(true);
  });
});
