import { describe, expect, test } from 'vitest';
import { decide } from '../../../src/policy/decide.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Question } from '../../../src/policy/question.ts';
import { signDigest } from '../../../src/trust/ssh-signature.ts';
import { imageDigest, makeKey, policyOf, questionOf, signatureFile } from './policy-of.ts';

const one = makeKey('one');
const two = makeKey('two');
const stranger = makeKey('stranger');
const named = makeKey('named', 'names = ["example/**"]');
const keys = one.toml + two.toml + named.toml;
const all = 'signed-by = ["one", "two", "named"]\n';
const ssh = (key: { key: Parameters<typeof signDigest>[1] }): Uint8Array => signDigest(imageDigest, key.key);
const rule = (body: string, name = 'r'): string => `[[rules]]\nname = "${name}"\n${all}${body}\n`;

/** The rule that lets the image in with who counts and the name told, or the kind of the refusal. */
function outcome(policy: Policy, files: readonly Uint8Array[], more: Partial<Question> = {}): string {
  const decision = decide(policy, questionOf(policy, files, more));
  if (decision.outcome === 'deny') return decision.refusal.kind;
  const { rule: by, signers, name } = decision.evidence;
  return `${by}: ${signers.join(' ')}${name === undefined ? '' : ` as ${name}`}`;
}

describe('a rule that takes ssh', () => {
  const policy = policyOf(keys + rule('formats = ["ssh"]'));

  test('takes a signature over the digest, and tells no name', () => {
    expect(outcome(policy, [ssh(one)])).toBe('r: one');
    expect(outcome(policy, [ssh(one), ssh(two), ssh(one)])).toBe('r: one two');
  });

  test('takes its filesystem only, whatever is asked for', () => {
    expect(outcome(policy, [ssh(one)], { fileSystem: 'ext4' })).toBe('DeniedByPolicy');
    const erofs = policyOf(keys + rule('formats = ["ssh"]\nfile-systems = ["erofs"]'));
    expect(outcome(erofs, [ssh(one)], { fileSystem: 'erofs' })).toBe('r: one');
    expect(outcome(erofs, [ssh(one)])).toBe('DeniedByPolicy');
  });

  test('takes no DSSE', () => {
    expect(outcome(policy, [signatureFile({}, one.key)])).toBe('DeniedByPolicy');
  });

  test('takes nobody else', () => {
    expect(outcome(policy, [ssh(stranger)])).toBe('KeyNotTrusted');
    expect(outcome(policy, [])).toBe('NotSigned');
  });

  test('takes no key that may speak for some names only', () => {
    expect(outcome(policy, [ssh(named)])).toBe('KeyNotTrusted');
    const decision = decide(policy, questionOf(policy, [ssh(named)]));
    expect(decision).toMatchObject({
      refusal: { message: expect.stringContaining('"named" (may speak for some names only') as string },
    });
  });

  test('takes no revoked key, and none out of its time', () => {
    const revoking = policyOf(`${keys}${rule('formats = ["ssh"]')}[[revoked]]\nkey = "${one.keyId}"\n`);
    expect(outcome(revoking, [ssh(one)])).toBe('KeyNotTrusted');
    const late = makeKey('late', 'not-after = 2026-01-01T00:00:00Z');
    const timed = policyOf(`${late.toml}[[rules]]\nname = "r"\nsigned-by = ["late"]\nformats = ["ssh"]\n`);
    expect(outcome(timed, [ssh(late)])).toBe('Expired');
  });

  test('is about this image', () => {
    const other = policyOf(`${keys}${rule('formats = ["ssh"]')}`);
    const digest = `sha256:${'1'.repeat(64)}` as typeof imageDigest;
    expect(outcome(other, [ssh(one)], { digest })).toBe('SignatureInvalid');
  });
});

test('a rule takes no format that it does not name', () => {
  const policy = policyOf(keys + rule(''));
  expect(outcome(policy, [ssh(one)])).toBe('DeniedByPolicy');
  expect(outcome(policy, [ssh(one), signatureFile({}, two.key)])).toBe('r: two as example/app');
});

describe('a rule that takes both', () => {
  const policy = policyOf(keys + rule('formats = ["dsse", "ssh"]\nthreshold = 2'));

  test('adds up distinct keys, and counts a key in two formats once', () => {
    expect(outcome(policy, [signatureFile({}, one.key), ssh(one)])).toBe('KeyNotTrusted');
    expect(outcome(policy, [signatureFile({}, one.key), ssh(two)])).toBe('r: one two');
    expect(outcome(policy, [ssh(one), ssh(two)])).toBe('r: one two');
  });

  test('tells the name only where enough have signed it', () => {
    expect(outcome(policy, [signatureFile({}, one.key, two.key), ssh(one)])).toBe(
      'r: one two as example/app',
    );
    expect(outcome(policy, [signatureFile({}, stranger.key), ssh(one), ssh(two)])).toBe('r: one two');
  });

  test('holds those who stated more to what they stated', () => {
    const past = signatureFile({ expires: new Date('2026-01-01T00:00:00Z') }, one.key);
    expect(outcome(policy, [past, ssh(two)])).toBe('Expired');
    expect(outcome(policy, [signatureFile({ fileSystem: 'erofs' }, one.key), ssh(two)])).toBe(
      'KeyNotTrusted',
    );
  });

  test('counts a key with names for the name that it signed', () => {
    expect(outcome(policy, [signatureFile({}, named.key), ssh(two)])).toBe('r: two named');
    expect(outcome(policy, [signatureFile({ name: 'other' }, named.key), ssh(two)])).toBe('KeyNotTrusted');
  });
});

test('whoever drops the envelope gets no further than a rule for ssh says', () => {
  const policy = policyOf(
    keys +
      rule('rollback-protection = true\nimages = ["example/**"]', 'named') +
      rule('formats = ["ssh"]\nusers = ["alice"]\nattributes = ["ro", "noexec"]', 'bare'),
  );
  const newestVersion = (): number => 9;
  const envelope = signatureFile({ version: 8 }, one.key);
  expect(outcome(policy, [envelope], { newestVersion })).toBe('RolledBack');
  // Where both are shown, the first rule decides.
  expect(outcome(policy, [envelope, ssh(one)], { newestVersion })).toBe('RolledBack');
  expect(outcome(policy, [ssh(one)], { newestVersion })).toBe('bare: one');
  const caller = { uid: 1001, root: false, gids: [] };
  expect(outcome(policy, [ssh(one)], { newestVersion, caller })).toBe('DeniedByPolicy');
});
