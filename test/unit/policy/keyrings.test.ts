import { describe, expect, test } from 'vitest';
import type { KeyringAnswer, KeyringQuestion } from '../../../src/base/keyring-question.ts';
import { decide } from '../../../src/policy/decide.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Question } from '../../../src/policy/question.ts';
import { askPolicyKeyrings } from '../../../src/policy/verify-files.ts';
import { policyWarnings } from '../../../src/policy/warnings.ts';
import { parseCertificate } from '../../../src/trust/certificate.ts';
import type { KeyringSignature } from '../../../src/trust/keyring-signature.ts';
import { signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { makeCertificate, newKey } from '../../support/certificates.ts';
import { faultsOf, imageDigest, makeKey, policyOf, questionOf, signatureFile } from './policy-of.ts';

const ring = '[[keys]]\nid = "ring"\nkeyring = ".fs-verity"\n';
const one = makeKey('one');
const two = makeKey('two');
const formats = 'formats = ["fsverity-pkcs7"]\n';
const rule = (body = formats, signedBy = ['ring']): string =>
  `[[rules]]\nname = "r"\nsigned-by = ${JSON.stringify(signedBy)}\n${body}`;
const made: KeyringSignature = { keyring: '.fs-verity', key: undefined };

/** Who counted, or the refusal's message, where the kernel says that these keys of its keyrings have signed. */
function outcome(
  policy: Policy,
  keyringSignatures: readonly KeyringSignature[],
  more: Partial<Question> = {},
): string {
  const { verification } = questionOf(policy, []);
  const question = questionOf(policy, [], { verification: { ...verification, keyringSignatures }, ...more });
  const decision = decide(policy, question);
  return decision.outcome === 'allow' ? decision.evidence.signers.join() : decision.refusal.message;
}

describe('a keyring in [[keys]]', () => {
  test.each([
    [
      'a name that anybody can take',
      'keyring = "vendor"',
      'keys[0].keyring: not the name of a keyring that only',
    ],
    ['a path', 'keyring = "../x"', 'keys[0].keyring: not the name of a keyring that only'],
    ['a file as well', 'keyring = ".k"\nfile = "x.pem"', 'keys[0].file: the table has keyring as well'],
    [
      'a key as well',
      'keyring = ".k"\npublic-key = "AAAA"',
      'keys[0].public-key: the table has keyring as well',
    ],
    ['others to vouch for', 'keyring = ".k"\nauthority = true', 'keys[0].authority: keys in a keyring'],
    ['names to speak for', 'keyring = ".k"\nnames = ["a/**"]', 'keys[0].names: signatures by the keys in'],
    [
      'an end before its beginning',
      'keyring = ".k"\nnot-before = 2026-02-01T00:00:00Z\nnot-after = 2026-01-01T00:00:00Z',
      'keys[0].not-after: lies before not-before',
    ],
  ])('does not go with %s', (_what, fields, fault) => {
    const faults = faultsOf(`[[keys]]\nid = "k"\n${fields}\n`);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(fault);
  });

  test('has an id of its own', () => {
    expect(faultsOf(ring + ring)).toEqual([
      expect.stringContaining('"ring" is already the ID of another key'),
    ]);
    expect(faultsOf(one.toml + ring.replace('"ring"', '"one"'))).toEqual([
      expect.stringContaining('"one" is already the ID of another key'),
    ]);
  });

  test('does not go with a threshold, since nobody can tell its keys from others', () => {
    const body = `${formats}threshold = 2\n`;
    expect(faultsOf(ring + one.toml + rule(body, ['ring', 'one']))).toEqual([
      expect.stringContaining('rules[0].threshold: above 1, and nobody can tell a key of the keyring "ring"'),
    ]);
    expect(faultsOf(ring + rule(`${formats}threshold = 1\n`))).toEqual([]);
    // Nor where a policy was made in another way.
    const policy = policyOf(ring + one.toml + rule(formats, ['ring', 'one']));
    const strict = { ...policy, rules: policy.rules.map((each) => ({ ...each, threshold: 2 })) };
    expect(outcome(strict, [made, made])).toMatch(/^rule "r": signers: 0 of the 2/);
  });
});

describe('a rule that names a keyring', () => {
  const policy = policyOf(ring + one.toml + rule(formats, ['ring', 'one']));

  test('takes what its keys signed, and those of no other keyring', () => {
    expect(outcome(policy, [made])).toBe('ring');
    expect(outcome(policy, [{ ...made, keyring: '.another' }])).toMatch(/^rule "r": signers: 0 of the 1/);
    expect(outcome(policy, [])).toMatch(/not signed/);
  });

  test('is the only one that does, and only in that format', () => {
    expect(outcome(policyOf(ring + one.toml + rule(formats, ['one'])), [made])).toContain(
      '"ring" (not one of signed-by)',
    );
    expect(outcome(policyOf(ring + rule('')), [made])).not.toBe('ring');
  });

  test('tells no name of what was signed beside it', () => {
    const both = policyOf(ring + one.toml + rule('formats = ["dsse", "fsverity-pkcs7"]\n', ['ring']));
    const statements = questionOf(both, [signatureFile({}, one.key)]).verification;
    const decision = decide(
      both,
      questionOf(both, [], { verification: { ...statements, keyringSignatures: [made] } }),
    );
    expect(decision).toMatchObject({ outcome: 'allow', evidence: { name: undefined, signers: ['ring'] } });
  });

  test('keeps to its time', () => {
    const ended = policyOf(`${ring}not-after = 2026-01-01T00:00:00Z\n${rule()}`);
    expect(outcome(ended, [made])).toContain('the keyring "ring" expired at 2026-01-01T00:00:00Z');
    const begins = policyOf(`${ring}not-before = 2027-01-01T00:00:00Z\n${rule()}`);
    expect(outcome(begins, [made])).toContain('the keyring "ring" is not valid before 2027-01-01T00:00:00Z');
    const skewed = `[clock]\nskew-seconds = 60\n${ring}not-after = 2026-05-31T23:59:30Z\n${rule()}`;
    expect(outcome(policyOf(skewed), [made])).toBe('ring');
  });

  test('takes no key that is revoked, nor one that could be', () => {
    const key = policy.keys.get('one')?.key.id;
    const revoking = policyOf(`${ring}${one.toml}${rule()}[[revoked]]\nkey = "${two.keyId}"\n`);
    expect(outcome(revoking, [made])).toContain('"ring" (may be a key that is revoked');
    expect(outcome(revoking, [{ ...made, key }])).toBe('ring');
    const gone = { ...revoking, revokedKeys: new Set([...revoking.revokedKeys, ...(key ? [key] : [])]) };
    expect(outcome(gone, [{ ...made, key }])).toContain('"ring" (revoked)');
  });
});

test('policy check says what a keyring lacks', () => {
  const warnings = (text: string): readonly string[] =>
    policyWarnings(policyOf(text), new Date('2026-06-01T00:00:00Z'));
  const dated = `${ring}not-after = 2027-01-01T00:00:00Z\n`;
  expect(warnings(dated + rule())).toEqual([]);
  expect(warnings(ring + rule())).toEqual([expect.stringContaining('keyring "ring" has no not-after')]);
  expect(warnings(dated + one.toml + rule('', ['one']))).toEqual(['keyring "ring" is used by no rule']);
  expect(warnings(dated + rule(''))).toEqual([
    expect.stringContaining('needs 1 of its keys and can never have them: "ring" is a keyring'),
  ]);
  expect(warnings(`${ring}not-after = 2026-01-01T00:00:00Z\n${rule()}`)).toEqual([
    expect.stringContaining('keyring "ring" expired'),
    expect.stringContaining('can never have them: "ring" has expired'),
  ]);
  const revoked = `[[revoked]]\nkey = "${two.keyId}"\n`;
  expect(warnings(dated + rule() + revoked)).toEqual([
    expect.stringContaining('keyring "ring" counts for nothing while keys are revoked'),
  ]);
  // A key to compare with needs no rule.
  expect(warnings(dated + one.toml + rule() + revoked)).toEqual([]);
});

describe('what the kernel is asked', () => {
  const key = newKey();
  const der = makeCertificate(key, key, {});
  const file = signDigestPkcs7(imageDigest, key, [parseCertificate(der)]);

  function ask(policy: Policy, files: readonly Uint8Array[], answer: KeyringAnswer): KeyringQuestion[] {
    const asked: KeyringQuestion[] = [];
    askPolicyKeyrings(files, imageDigest, policy, (question) => {
      asked.push(question);
      return answer;
    });
    return asked;
  }
  const no: KeyringAnswer = { made: false, why: undefined };

  test('is nothing where the policy names no keyring, or nothing is of that format', () => {
    expect(ask(policyOf(one.toml), [file], no)).toEqual([]);
    expect(
      ask(policyOf(ring), [signatureFile({}, one.key), Buffer.from('junk'), Buffer.from([0x30])], no),
    ).toEqual([]);
  });

  test('is each keyring once, by the serial number and the issuer', () => {
    const twice = ring + ring.replace('"ring"', '"again"');
    const asked = ask(policyOf(twice), [file], no);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ keyring: '.fs-verity', family: 'ecdsa' });
    const { serial, issuer } = parseCertificate(der);
    const identifier = serial + Buffer.from(issuer.subarray(2)).toString('hex');
    expect(Buffer.from(asked[0]?.identifier ?? []).toString('hex')).toBe(identifier);
  });

  test('is bounded, whatever is shown', () => {
    expect(
      ask(
        policyOf(ring),
        Array.from({ length: 40 }, () => file),
        no,
      ),
    ).toHaveLength(16);
  });

  test('is nothing of Ed25519, which no kernel has', () => {
    const ed = newKey('ed25519');
    const signed = signDigestPkcs7(imageDigest, ed, [parseCertificate(makeCertificate(ed, ed, {}))]);
    expect(ask(policyOf(ring), [signed], no)).toEqual([]);
  });

  test('a certificate says which key it was only where its identifier is the hash of that key', () => {
    const known = { ...policyOf(ring + one.toml), revokedKeys: new Set([key.publicKey.id]) };
    const holding = {
      ...known,
      keys: new Map([...known.keys].map(([id, each]) => [id, { ...each, key: key.publicKey }])),
    };
    const keyOf = (subjectKeyId: string | undefined): unknown =>
      askPolicyKeyrings([file], imageDigest, holding, () => ({ made: true, subjectKeyId }))?.signatures[0]
        ?.key;
    expect(keyOf(undefined)).toBeUndefined();
    expect(keyOf('0'.repeat(40))).toBeUndefined();
  });
});
