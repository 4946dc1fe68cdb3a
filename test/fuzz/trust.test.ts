import { expect, test } from 'vitest';
import { digestFromBytes } from '../../src/base/digest.ts';
import { EnvelopeInvalid, formatEnvelope, parseEnvelope } from '../../src/trust/dsse.ts';
import { JsonInvalid, parseStrictJson } from '../../src/trust/json.ts';
import { parsePublicKey } from '../../src/trust/key.ts';
import { KeyInvalid } from '../../src/trust/public-key.ts';
import { generateKeyPair, parsePrivateKey } from '../../src/trust/private-key.ts';
import { signStatement } from '../../src/trust/sign.ts';
import type { Statement } from '../../src/trust/statement.ts';
import {
  equalStatements,
  formatStatement,
  parseStatement,
  StatementInvalid,
} from '../../src/trust/statement.ts';
import { verifySignatures } from '../../src/trust/verify.ts';
import { Random } from '../support/random.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(1));
const statement: Statement = {
  name: 'example/app',
  digest,
  fileSystem: 'erofs',
  version: 7,
  notBefore: new Date('2026-01-01T00:00:00Z'),
  expires: new Date('2027-01-01T00:00:00Z'),
};
const pair = generateKeyPair();
const envelope = signStatement(statement, parsePrivateKey(pair.privatePem));
const sshNames = {
  ed25519: 'ssh-ed25519',
  'ecdsa-p256': 'ecdsa-sha2-nistp256',
  'ecdsa-p384': 'ecdsa-sha2-nistp384',
  rsa: 'ssh-rsa',
};
const words = ['{}', '[]', '"a":1,', 'null', '"', '\\u0000', '1e9', '-', '==', '__proto__'] as const;

/** Whatever `run` throws has to be of the kind that it says it throws. */
function orThrows<Value>(kind: new (...args: never[]) => Error, run: () => Value): Value | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof kind) return undefined;
    throw error;
  }
}

test('a changed signature file proves the statement that was signed, or none', () => {
  const random = new Random(1);
  const file = formatEnvelope(envelope);
  for (let round = 0; round < 3000; round++) {
    const changed = random.mutate(file, words);
    const { statements } = verifySignatures([changed], digest, [pair.publicKey]);
    for (const proven of statements) {
      if (proven.signers.length === 0) continue;
      expect(proven.statement, `seed ${random.seed}, round ${round}`).toEqual(statement);
    }
  }
});

test('an envelope that is taken is written and read again as it was', () => {
  const random = new Random(2);
  const file = formatEnvelope(envelope);
  for (let round = 0; round < 5000; round++) {
    const parsed = orThrows(EnvelopeInvalid, () => parseEnvelope(random.mutate(file, words)));
    if (parsed === undefined) continue;
    expect(parseEnvelope(formatEnvelope(parsed)), `seed ${random.seed}, round ${round}`).toEqual(parsed);
  }
});

test('a statement that is taken is written and read again as it was', () => {
  const random = new Random(3);
  const payload = formatStatement(statement);
  for (let round = 0; round < 10_000; round++) {
    const parsed = orThrows(StatementInvalid, () => parseStatement(random.mutate(payload, words)));
    if (parsed === undefined) continue;
    expect(
      equalStatements(parseStatement(formatStatement(parsed)), parsed),
      `seed ${random.seed}, round ${round}`,
    ).toBe(true);
  }
});

test('strict JSON takes nothing that JSON.parse does not', () => {
  const random = new Random(4);
  const text = formatStatement(statement);
  for (let round = 0; round < 10_000; round++) {
    const changed = random.mutate(text, words);
    const parsed = orThrows(JsonInvalid, () => ({ value: parseStrictJson(changed) }));
    if (parsed !== undefined) expect(parsed.value).toEqual(JSON.parse(Buffer.from(changed).toString('utf8')));
  }
});

test('a key that is taken is of the one form of its kind', () => {
  const random = new Random(5);
  const keys = [pair, generateKeyPair('ecdsa-p256'), generateKeyPair('ecdsa-p384')] as const;
  const texts = keys.flatMap(({ publicPem, publicKey }) => [
    publicPem,
    Buffer.from(publicKey.spki).toString('base64'),
    `${sshNames[publicKey.algorithm]} ` + `${Buffer.from(publicKey.sshBlob).toString('base64')} a@b`,
  ]);
  const [first = '', ...others] = texts;
  for (const text of texts) expect(() => parsePublicKey(text)).not.toThrow();
  for (let round = 0; round < 6000; round++) {
    const text = Buffer.from(
      random.mutate(Buffer.from(random.pick([first, ...others])), ['\n', '-----', 'A', '=', 'ssh-rsa ']),
    ).toString('latin1');
    const key = orThrows(KeyInvalid, () => parsePublicKey(text));
    if (key === undefined) continue;
    expect([44, 91, 120], `seed ${random.seed}, round ${round}`).toContain(key.spki.length);
    expect(parsePublicKey(Buffer.from(key.spki).toString('base64')).id).toBe(key.id);
  }
});
