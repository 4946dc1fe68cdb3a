import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fromHex } from '../../../src/base/bytes.ts';
import { parseSpki } from '../../../src/trust/key.ts';
import type { HashName, PublicKey } from '../../../src/trust/public-key.ts';
import { KeyInvalid } from '../../../src/trust/public-key.ts';
import { needs } from '../../support/needs.ts';
import { wycheproofVectors } from '../../support/vectors.ts';

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly flags: readonly string[];
  readonly msg: string;
  readonly sig: string;
  readonly result: 'valid' | 'invalid' | 'acceptable';
}

interface Group {
  readonly publicKeyDer: string;
  readonly sha?: string;
  readonly tests: readonly Vector[];
}

interface File {
  readonly numberOfTests: number;
  readonly testGroups: readonly Group[];
}

type Verify = (key: PublicKey, message: Uint8Array, signature: Uint8Array) => boolean;

const dsse: Verify = (key, message, signature) => key.verify(message, signature);
const ssh =
  (algorithm: string): Verify =>
  (key, message, signature) =>
    key.verifySsh(algorithm, message, signature);

/** As certificates and CMS carry signatures. */
const hashed =
  (hash: HashName): Verify =>
  (key, message, signature) =>
    key.verifyHashed(hash, message, signature);
const hashes = ['sha256', 'sha384', 'sha512'] as const;

const files: readonly (readonly [name: string, as: string, verify: Verify])[] = [
  ['ed25519', 'dsse', dsse],
  ['ed25519', 'ssh', ssh('ssh-ed25519')],
  ['ed25519', 'pkcs7', hashed('sha512')],
  ['ecdsa_secp256r1_sha256', 'dsse', dsse],
  ['ecdsa_secp384r1_sha384', 'dsse', dsse],
  ...[
    ['secp256r1', 'sha256'] as const,
    ['secp256r1', 'sha512'] as const,
    ...hashes.map((hash) => ['secp384r1', hash] as const),
  ].map(([curve, hash]) => [`ecdsa_${curve}_${hash}`, 'pkcs7', hashed(hash)] as const),
  ...[2048, 3072, 4096, 8192].flatMap((bits) => [
    ...[256, 512].map(
      (hash) => [`rsa_signature_${bits}_sha${hash}`, 'ssh', ssh(`rsa-sha2-${hash}`)] as const,
    ),
    ...hashes.map((hash) => [`rsa_signature_${bits}_${hash}`, 'pkcs7', hashed(hash)] as const),
  ]),
];

/** RSA keys that are never taken, whatever they signed: an exponent of 3 (FIPS 186-5 wants 65,537 or more). */
const refusedKey = /^an RSA key whose exponent/;

const missing = needs(
  'unit',
  wycheproofVectors !== undefined,
  'project Wycheproof’s vectors are not installed (test/interop/setup.sh)',
);

describe.skipIf(missing)("project Wycheproof's vectors", () => {
  test.each(files)('%s, as %s has it', (name, _format, verify) => {
    const path = join(wycheproofVectors ?? '', `${name}_test.json`);
    const file = JSON.parse(readFileSync(path, 'utf8')) as File;
    const bytes = (hex: string): Uint8Array => fromHex(hex) ?? new Uint8Array();
    let asked = 0;
    let valid = 0;
    for (const group of file.testGroups) {
      let key: PublicKey;
      try {
        key = parseSpki(bytes(group.publicKeyDer));
      } catch (error) {
        if (!(error instanceof KeyInvalid)) throw error;
        expect(error.message).toMatch(refusedKey);
        asked += group.tests.length;
        continue;
      }
      for (const { tcId, comment, flags, msg, sig, result } of group.tests) {
        asked++;
        // "acceptable" is what some verifiers take and the standard does not ask for: it is not taken here.
        const holds = verify(key, bytes(msg), bytes(sig));
        expect(holds, `${name} ${tcId}: ${comment} (${flags.join(', ')}, ${result})`).toBe(
          result === 'valid',
        );
        if (holds) valid++;
      }
    }
    expect(asked).toBe(file.numberOfTests);
    expect(valid).toBeGreaterThan(0);
  });
});
