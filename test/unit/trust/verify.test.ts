import { describe, expect, test } from 'vitest';
import { digestFromBytes } from '../../../src/base/digest.ts';
import type { Envelope } from '../../../src/trust/dsse.ts';
import {
  EnvelopeInvalid,
  formatEnvelope,
  parseEnvelope,
  preAuthEncoding,
  signatureFileBytesMax,
} from '../../../src/trust/dsse.ts';
import type { PrivateKey } from '../../../src/trust/private-key.ts';
import { generateKeyPair, parsePrivateKey } from '../../../src/trust/private-key.ts';
import { addSignature, signStatement } from '../../../src/trust/sign.ts';
import type { Statement } from '../../../src/trust/statement.ts';
import { verifySignatures } from '../../../src/trust/verify.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(1));
const statement: Statement = { name: 'a', digest, fileSystem: 'composefs' };
const [one, two, three] = [makeKey(), makeKey(), makeKey()];
const known = [one.publicKey, two.publicKey];

function makeKey(): PrivateKey {
  return parsePrivateKey(generateKeyPair().privatePem);
}

/** The envelope with its signatures changed. */
function resigned(
  envelope: Envelope,
  change: (signature: Envelope['signatures'][number]) => Partial<Envelope['signatures'][number]>,
): Uint8Array {
  const signatures = envelope.signatures.map((signature) => ({ ...signature, ...change(signature) }));
  return formatEnvelope({ ...envelope, signatures });
}

describe('an envelope', () => {
  const file = formatEnvelope(signStatement(statement, one));
  const json = new TextDecoder().decode(file);
  const parse = (text: string): Envelope => parseEnvelope(new TextEncoder().encode(text));

  test('is written and read again byte for byte', () => {
    expect(formatEnvelope(parseEnvelope(file))).toEqual(file);
  });

  test('is signed over what DSSE says', () => {
    // The example of the DSSE protocol's description.
    expect(
      new TextDecoder().decode(
        preAuthEncoding('http://example.com/HelloWorld', new TextEncoder().encode('hello world')),
      ),
    ).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  });

  test('may be base64url, without key ID, and with members nobody knows', () => {
    const envelope = parse(
      '{"payloadType":"t","payload":"-_8=","more":1,"signatures":[{"sig":"AA==","cert":"x"}]}',
    );
    expect(envelope).toEqual({
      payloadType: 't',
      payload: new Uint8Array([0xfb, 0xff]),
      signatures: [{ keyid: '', sig: new Uint8Array([0]) }],
    });
  });

  test.each([
    ['nothing', ''],
    ['no object', '[]'],
    ['no payload', json.replace('"payload"', '"p"')],
    ['no type', json.replace('"payloadType"', '"p"')],
    ['no signatures', json.replace('"signatures"', '"s"')],
    ['no signature', '{"payloadType":"t","payload":"","signatures":[]}'],
    ['a signature that is none', '{"payloadType":"t","payload":"","signatures":[null]}'],
    ['base64 of both alphabets', '{"payloadType":"t","payload":"-+8=","signatures":[{"sig":"AA=="}]}'],
    ['base64 without padding', '{"payloadType":"t","payload":"AA","signatures":[{"sig":"AA=="}]}'],
    ['base64 with stray bits', '{"payloadType":"t","payload":"AB==","signatures":[{"sig":"AA=="}]}'],
    ['a payload twice', json.replace('"payload"', '"payload":"","payload"')],
    [
      'a key ID too long',
      `{"payloadType":"t","payload":"","signatures":[{"keyid":"${'a'.repeat(257)}","sig":"AA=="}]}`,
    ],
    [
      'too many signatures',
      `{"payloadType":"t","payload":"","signatures":[${'{"sig":"AA=="},'.repeat(16)}{"sig":"AA=="}]}`,
    ],
    ['too many bytes', ' '.repeat(signatureFileBytesMax) + json],
  ])('is not %s', (_what, text) => {
    expect(() => parse(text)).toThrow(EnvelopeInvalid);
  });

  test('takes further signatures on the same statement', () => {
    const both = addSignature(signStatement(statement, one), statement, two);
    expect(both.signatures.map(({ keyid }) => keyid)).toEqual([one.publicKey.id, two.publicKey.id]);
    expect(addSignature(both, statement, one).signatures.map(({ keyid }) => keyid)).toEqual([
      two.publicKey.id,
      one.publicKey.id,
    ]);
    expect(() => addSignature(both, { ...statement, version: 1 }, three)).toThrow('states something else');
  });

  test('takes no more signatures than can be read', () => {
    let envelope = signStatement(statement, makeKey());
    for (let count = 1; count < 16; count++) envelope = addSignature(envelope, statement, makeKey());
    expect(parseEnvelope(formatEnvelope(envelope)).signatures).toHaveLength(16);
    expect(() => addSignature(envelope, statement, one)).toThrow(EnvelopeInvalid);
  });
});

describe('verification', () => {
  test('names the signers that are known, and those that are not', () => {
    const file = formatEnvelope(addSignature(signStatement(statement, one), statement, three));
    expect(verifySignatures([file], digest, known)).toEqual({
      statements: [{ statement, signers: [one.publicKey.id], unknownKeyIds: [three.publicKey.id] }],
      digestSignatures: [],
      faults: [],
    });
  });

  test('of nothing proves nothing', () => {
    expect(verifySignatures([], digest, known)).toEqual({ statements: [], digestSignatures: [], faults: [] });
  });

  test('adds up files that state the same, and counts a key once', () => {
    const files = [one, two, one].map((key) => formatEnvelope(signStatement(statement, key)));
    expect(verifySignatures(files, digest, known).statements).toEqual([
      { statement, signers: [one.publicKey.id, two.publicKey.id], unknownKeyIds: [] },
    ]);
  });

  test('keeps statements apart that differ', () => {
    const files = [
      formatEnvelope(signStatement(statement, one)),
      formatEnvelope(signStatement({ ...statement, version: 1 }, two)),
    ];
    expect(verifySignatures(files, digest, known).statements.map(({ signers }) => signers)).toEqual([
      [one.publicKey.id],
      [two.publicKey.id],
    ]);
  });

  test.each(['', 'no such key', two.publicKey.id])('does not go by the key ID %j', (keyid) => {
    const file = resigned(signStatement(statement, one), () => ({ keyid }));
    expect(verifySignatures([file], digest, known)).toEqual({
      statements: [{ statement, signers: [one.publicKey.id], unknownKeyIds: [] }],
      digestSignatures: [],
      faults: [],
    });
  });

  test('takes no signature for more than its payload and type', () => {
    const signed = signStatement(statement, one);
    const other = signStatement({ ...statement, version: 1 }, one);
    const moved = formatEnvelope({ ...other, signatures: signed.signatures });
    const result = verifySignatures([moved], digest, known);
    expect(result.statements).toEqual([]);
    expect(result.faults).toEqual([
      `the signature: the signature by key ${one.publicKey.id} does not verify`,
    ]);
    const typed = verifySignatures([formatEnvelope({ ...signed, payloadType: 'text/plain' })], digest, known);
    expect(typed.faults[0]).toContain('payloadType');
  });

  test('says which file is of no use, and uses the others', () => {
    const other = digestFromBytes(new Uint8Array(32).fill(2));
    const files = [
      formatEnvelope(signStatement({ ...statement, digest: other }, one)),
      new TextEncoder().encode('no envelope'),
      formatEnvelope(signStatement(statement, one)),
    ];
    const { statements, faults } = verifySignatures(files, digest, known);
    expect(statements.map(({ signers }) => signers)).toEqual([[one.publicKey.id]]);
    expect(faults[0]).toBe(
      `signature file 1 of 3 is of no use: it is about the image ${other}, and this one is ${digest}`,
    );
    expect(faults[1]).toMatch(/^signature file 2 of 3 is malformed: /);
  });

  test('tries a bounded number of keys, those that are named first', () => {
    const many = Array.from({ length: 80 }, () => generateKeyPair().publicKey);
    const junk = resigned(signStatement(statement, three), () => ({ keyid: 'x' }));
    const files = [junk, formatEnvelope(signStatement(statement, one))];
    const { statements, faults } = verifySignatures(files, digest, [...many, one.publicKey]);
    expect(statements).toEqual([{ statement, signers: [one.publicKey.id], unknownKeyIds: [] }]);
    expect(faults).toEqual(['signature file 1 of 2: too many signatures carry a key ID that is not theirs']);
  });

  test('reads a bounded number of files', () => {
    const files = Array.from({ length: 17 }, () => formatEnvelope(signStatement(statement, one)));
    expect(verifySignatures(files, digest, known).faults).toEqual([
      'of 17 signature files only the first 16 were read',
    ]);
  });
});
