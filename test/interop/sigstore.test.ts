import { createPrivateKey, sign } from 'node:crypto';
import { envelopeFromJSON, envelopeToJSON } from '@sigstore/bundle';
import { crypto, dsse } from '@sigstore/core';
import { DSSEBundleBuilder } from '@sigstore/sign';
import { describe, expect, test } from 'vitest';
import { digestFromBytes } from '../../src/base/digest.ts';
import { formatEnvelope, inTotoPayloadType, parseEnvelope } from '../../src/trust/dsse.ts';
import { generatedAlgorithms, generateKeyPair, parsePrivateKey } from '../../src/trust/private-key.ts';
import { addSignature, signStatement } from '../../src/trust/sign.ts';
import { formatStatement } from '../../src/trust/statement.ts';
import { verifySignatures } from '../../src/trust/verify.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(5));
const statement = { name: 'example/app', digest, fileSystem: 'composefs', version: 3 } as const;
const hashes = { ed25519: undefined, 'ecdsa-p256': 'sha256', 'ecdsa-p384': 'sha384' } as const;

/** Whether sigstore's own code takes the signature at this place of an envelope, read by its own parser. */
function sigstoreTakes(file: Uint8Array, at: number, publicPem: string, hash: string | undefined): boolean {
  const envelope = envelopeFromJSON(JSON.parse(Buffer.from(file).toString()));
  const signature = envelope.signatures[at];
  if (signature === undefined) throw new RangeError('no such signature');
  const message = dsse.preAuthEncoding(envelope.payloadType, envelope.payload);
  return crypto.verify(message, crypto.createPublicKey(publicPem), signature.sig, hash);
}

describe.each(generatedAlgorithms)("sigstore's DSSE with %s", (algorithm) => {
  const pair = generateKeyPair(algorithm);
  const hash = hashes[algorithm];

  test('takes our envelopes, of one signature and of two', () => {
    const other = generateKeyPair('ed25519');
    const one = signStatement(statement, parsePrivateKey(pair.privatePem));
    const both = addSignature(one, statement, parsePrivateKey(other.privatePem));
    expect(sigstoreTakes(formatEnvelope(one), 0, pair.publicPem, hash)).toBe(true);
    expect(sigstoreTakes(formatEnvelope(both), 0, pair.publicPem, hash)).toBe(true);
    expect(sigstoreTakes(formatEnvelope(both), 1, other.publicPem, undefined)).toBe(true);
    const changed = { ...one, payload: Buffer.from(one.payload).fill(0x20, 0, 1) };
    expect(sigstoreTakes(formatEnvelope(changed), 0, pair.publicPem, hash)).toBe(false);
  });

  test('makes envelopes that we take, but for the same bytes under another payload type', async () => {
    const key = createPrivateKey(pair.privatePem);
    const make = async (type: string): Promise<Uint8Array> => {
      const builder = new DSSEBundleBuilder({
        signer: {
          sign: (data) =>
            Promise.resolve({
              signature: sign(hash ?? null, data, key),
              key: { $case: 'publicKey', publicKey: pair.publicPem, hint: pair.publicKey.id },
            }),
        },
        witnesses: [],
      });
      const { content } = await builder.create({ data: Buffer.from(formatStatement(statement)), type });
      return Buffer.from(JSON.stringify(envelopeToJSON(content.dsseEnvelope)));
    };
    const file = await make(inTotoPayloadType);
    expect(parseEnvelope(file).payloadType).toBe(inTotoPayloadType);
    const { statements, faults } = verifySignatures([file], digest, [pair.publicKey]);
    expect(faults).toEqual([]);
    expect(statements).toEqual([{ statement, signers: [pair.publicKey.id], unknownKeyIds: [] }]);
    const foreign = verifySignatures([await make('text/plain')], digest, [pair.publicKey]);
    expect(foreign.statements).toEqual([]);
    expect(foreign.faults.join()).toMatch(/payloadType is not/);
  });
});
