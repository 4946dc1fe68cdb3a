import { expect, test } from 'vitest';
import type { Digest } from '../../../src/base/digest.ts';
import { EvidenceCache } from '../../../src/daemon/images/evidence.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import { formatEnvelope, parseEnvelope } from '../../../src/trust/dsse.ts';
import { generateKeyPair, parsePrivateKey } from '../../../src/trust/private-key.ts';
import { signStatement } from '../../../src/trust/sign.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

const digest = verityDigest(Buffer.from('image'));
const other = verityDigest(Buffer.from('another image'));
const key = parsePrivateKey(generateKeyPair().privatePem);

function policy(): Policy {
  return {
    keys: new Map([
      [
        'key',
        {
          id: 'key',
          key: key.publicKey,
          names: [],
          certificates: [],
          authority: false,
          notBefore: undefined,
          notAfter: undefined,
        },
      ],
    ]),
    clockSkew: 0,
    revokedKeys: new Set(),
    keyrings: new Map(),
    revokedDigests: new Set(),
    stores: new Map(),
    imageDirectories: [],
    rules: [],
    digest: 'sha256:policy',
  };
}

/** For policies without keyrings. */
function noKeyring(): never {
  throw new Error('a keyring was asked, and the policy names none');
}

function signed(name: string, about: Digest = digest): Buffer {
  return Buffer.from(formatEnvelope(signStatement({ name, digest: about, fileSystem: 'composefs' }, key)));
}

test('the same signature of the same image is verified once for a policy', () => {
  const cache = new EvidenceCache(10, noKeyring);
  const current = policy();
  const file = signed('a');
  const first = cache.verify([file], digest, current);
  expect(first.statements).toHaveLength(1);
  expect(cache.verify([file], digest, current)).toBe(first);
  // The same bytes elsewhere in memory.
  expect(cache.verify([Buffer.from(file)], digest, current)).toBe(first);
  expect(cache.verify([file], other, current)).not.toBe(first);
  expect(cache.verify([file], digest, policy())).not.toBe(first);
});

test('where one file ends and the next begins makes a difference', () => {
  const cache = new EvidenceCache(10, noKeyring);
  const current = policy();
  // Spaces after a JSON text belong to it, and in front of one as well.
  const [a, b, space] = [signed('a'), signed('b'), Buffer.from(' ')];
  const first = cache.verify([Buffer.concat([a, space]), b], digest, current);
  expect(cache.verify([a, Buffer.concat([space, b])], digest, current)).not.toBe(first);
});

test('beyond the bound the one used longest ago is forgotten', () => {
  const cache = new EvidenceCache(2, noKeyring);
  const current = policy();
  const [a, b, c] = ['a', 'b', 'c'].map((name) => signed(name)) as [Buffer, Buffer, Buffer];
  const ask = (file: Buffer): unknown => cache.verify([Buffer.from(file)], digest, current);
  const first = ask(a);
  const second = ask(b);
  expect(ask(a)).toBe(first);
  ask(c);
  expect(ask(a)).toBe(first);
  expect(ask(b)).not.toBe(second);
});

test('what proves nothing, or brings a lot of foreign signatures along, pushes nothing out', () => {
  const cache = new EvidenceCache(1, noKeyring);
  const current = policy();
  const honest = signed('a');
  const first = cache.verify([Buffer.from(honest)], digest, current);
  const foreign = parsePrivateKey(generateKeyPair().privatePem);
  const statement = { name: 'b', digest, fileSystem: 'composefs' } as const;
  const stranger = Buffer.from(formatEnvelope(signStatement(statement, foreign)));
  const envelope = parseEnvelope(honest);
  const claims = Array.from({ length: 15 }, (_, index) => ({ keyid: `x${index}`, sig: new Uint8Array(64) }));
  const crowded = [0, 1].map((round) =>
    Buffer.from(
      formatEnvelope({
        ...envelope,
        signatures: [
          ...envelope.signatures,
          ...claims.map(({ keyid, sig }) => ({ keyid: `${keyid} ${round}`, sig })),
        ],
      }),
    ),
  );
  for (const files of [[Buffer.from('no envelope')], [stranger], [honest, Buffer.from('{}')], crowded]) {
    cache.verify(files, digest, current);
    expect(cache.verify([Buffer.from(honest)], digest, current)).toBe(first);
  }
});
