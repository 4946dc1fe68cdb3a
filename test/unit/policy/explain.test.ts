import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { explain, formatExplanation } from '../../../src/policy/explain.ts';
import { policyWarnings } from '../../../src/policy/warnings.ts';
import { imageDigest, makeKey, policyOf, questionOf, signatureFile } from './policy-of.ts';

const one = makeKey('one');
const two = makeKey('two');
const rule = (name: string, body: string): string => `[[rules]]\nname = "${name}"\n${body}\n`;

describe('explain', () => {
  const policy = policyOf(
    one.toml +
      rule('bob', 'users = ["bob"]\nsigned-by = ["one"]') +
      rule('old', 'signed-by = ["one"]\nrollback-protection = true') +
      rule('last', 'unsigned = true'),
  );

  test('walks rule by rule up to the one that decides', () => {
    const { decision, rules } = explain(policy, questionOf(policy, [signatureFile({}, one.key)]));
    expect(decision).toMatchObject({ outcome: 'deny', refusal: { rule: 'old' } });
    expect(rules.map(({ rule: name, part }) => [name, part])).toEqual([
      ['bob', 'passed over'],
      ['old', 'decides'],
      ['last', 'not asked'],
    ]);
    expect(rules[0]?.checks.map(({ name, holds }) => [name, holds])).toEqual([
      ['unsigned', true],
      ['caller', false],
    ]);
    expect(rules[1]?.checks.at(-1)).toMatchObject({ name: 'version', holds: false });
  });

  test('writes lines', () => {
    const lines = formatExplanation(explain(policy, questionOf(policy, [])));
    expect(lines).toContain('rule "bob" (50-test.toml:5): passed over');
    expect(lines).toContain('  no   caller: is not for user 1000');
    expect(lines.at(-1)).toMatch(/^refused: NotSigned: rule "old": signers: the image is not signed/);
  });

  test('asks no rule about a revoked image', () => {
    const revoking = policyOf(`[[revoked]]\ndigest = "${imageDigest}"\n${rule('r', 'unsigned = true')}`);
    expect(explain(revoking, questionOf(revoking, [])).rules[0]).toMatchObject({ part: 'not asked' });
  });
});

describe('warnings', () => {
  const now = new Date('2026-06-01T00:00:00Z');
  const stores =
    '[[stores]]\nname = "t"\npath = "/t"\nverity = "trusted"\n[[stores]]\nname = "c"\npath = "/c"\nverity = "require"\n';
  const zeros = `digests = ["${imageDigest}"]\n`;

  test.each([
    ['', 'there is no rule'],
    [rule('r', `${zeros}stores = ["t"]`), 'names only trusted stores'],
    [rule('r', `${zeros}stores = ["t", "c"]`), 'requests that do not name other stores are refused'],
    [rule('r', 'locations = ["/nowhere"]'), 'is no image directory'],
    [rule('r', `${zeros}images = ["a"]`), 'never holds'],
    [rule('r', `${zeros}rollback-protection = true`), 'no version is trusted'],
  ])('%j', (text, expected) => {
    const warnings = policyWarnings(policyOf(stores + text), now);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(expected);
  });

  const until = (key: string, day: string): string => `${key}not-after = ${day}T00:00:00Z\n`;
  const rsa =
    '[[keys]]\nid = "rsa"\npublic-key = "' +
    String(
      generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'pem', type: 'spki' }),
    ).replaceAll(/-----.*-----|\n/g, '') +
    '"\n';
  const by = (...ids: readonly string[]): string => `signed-by = ${JSON.stringify(ids)}\n`;
  test.each([
    ['an unused key', one.toml + rule('r', zeros), ['key "one" is used by no rule']],
    [
      'an expired key beside one that is not',
      until(one.toml, '2026-05-01') + two.toml + rule('r', by('one', 'two')),
      ['key "one" expired at 2026-05-01T00:00:00Z'],
    ],
    [
      'too few keys that are left',
      until(one.toml, '2026-05-01') + two.toml + rule('r', `${by('one', 'two')}threshold = 2`),
      ['key "one" expired at', 'needs 2 of its keys and can never have them: "one" has expired'],
    ],
    [
      'a revoked key',
      `${one.toml}[[revoked]]\nkey = "${one.keyId}"\n${rule('r', by('one'))}`,
      ['key "one" is revoked', 'can never have them: "one" is revoked'],
    ],
    ['an RSA key without ssh', rsa + rule('r', by('rsa')), ['"rsa" is RSA, which signs no DSSE']],
    ['an RSA key with ssh', rsa + rule('r', `${by('rsa')}formats = ["ssh"]`), []],
    [
      'a key with names where none is stated',
      `${one.toml}names = ["a"]\n${rule('r', `${by('one')}formats = ["ssh"]`)}`,
      ['"one" may speak for some names only'],
    ],
    [
      'a name for which no key may speak',
      `${one.toml}names = ["a/*"]\n${rule('r', `${by('one')}images = ["b/*", "*/c"]`)}`,
      ['takes "b/*", for which fewer than 1 of its keys may speak'],
    ],
    [
      'names for which no key may speak',
      `${one.toml}names = ["a/*"]\n${rule('r', `${by('one')}images = ["b/*"]`)}`,
      ['needs 1 of its keys and can never have them: "one" may speak for none of the names'],
    ],
    [
      'a name for which too few keys may speak',
      `${one.toml}names = ["a/*"]\n${two.toml}${rule('r', `${by('one', 'two')}images = ["a/x", "b/x"]\nthreshold = 2`)}`,
      ['takes "b/x", for which fewer than 2 of its keys may speak'],
    ],
    [
      'a key that may speak for nothing that the rule takes, beside one that may',
      `${one.toml}names = ["a/*"]\n${two.toml}${rule('r', `${by('one', 'two')}images = ["b/**"]`)}`,
      ['names "one" in signed-by: may speak for none of the names'],
    ],
    [
      'a key that two files narrow to nothing that they have in common with the rule',
      `${one.toml}names = ["a/*"]\n${one.toml}names = ["b/*"]\n${rule('r', `${by('one')}images = ["a/*"]`)}`,
      ['can never have them: "one" may speak for none'],
    ],
    [
      'nothing where a key may speak for a part of what the rule takes',
      `${one.toml}names = ["a/**"]\n${rule('r', `${by('one')}images = ["*/*/c"]`)}`,
      [],
    ],
    ['formats without signers', rule('r', `${zeros}formats = ["ssh"]`), ['asks for no signature']],
    [
      'a digest that is revoked',
      `[[revoked]]\ndigest = "${imageDigest}"\n${rule('r', zeros)}`,
      ['names only digests that are revoked'],
    ],
    ['unsigned for everybody', rule('r', 'unsigned = true\nusers = ["*"]'), ['others than root']],
    ['unsigned for whoever', rule('r', 'unsigned = true'), ['others than root']],
    ['unsigned for some', rule('r', 'unsigned = true\nusers = ["root", "alice"]'), ['others than root']],
    ['unsigned for root', rule('r', 'unsigned = true\nusers = ["root"]'), []],
    [
      'a rule behind a wider one',
      one.toml + two.toml + rule('wide', by('one', 'two')) + rule('narrow', `${by('one')}users = ["alice"]`),
      ['rule "narrow" never decides: rule "wide" (50-test.toml:'],
    ],
  ])('of %s', (_what, text, expected) => {
    const warnings = policyWarnings(policyOf(text), now);
    expect(warnings).toHaveLength(expected.length);
    expected.forEach((part, index) => {
      expect(warnings[index]).toContain(part);
    });
  });

  test.each([
    ['more keys', by('one', 'two'), by('one')],
    ['a higher threshold', by('one', 'two'), `${by('one', 'two')}threshold = 2`],
    ['fewer users', `${by('one')}users = ["1000-1999"]`, `${by('one')}users = ["alice", "1500-1600"]`],
    [
      'the same groups',
      `${by('one')}groups = ["appliance"]`,
      `${by('one')}groups = ["appliance"]\nusers = ["*"]`,
    ],
    ['every name', `${by('one')}images = ["**"]`, `${by('one')}images = ["a/*"]`],
    ['a wider pattern', `${by('one')}images = ["a/**"]`, `${by('one')}images = ["a/b/*", "a/c*"]`],
    ['no condition on names', by('one'), `${by('one')}images = ["a/*"]`],
    ['pins beside signers', zeros, `${zeros}${by('one')}`],
  ])('a rule is in the way of another: %s', (what, wide, narrow) => {
    const shadowed = (first: string, second: string): boolean =>
      policyWarnings(policyOf(one.toml + two.toml + rule('a', first) + rule('b', second)), now).some(
        (warning) => warning.includes('never decides'),
      );
    expect(shadowed(wide, narrow)).toBe(true);
    if (!what.startsWith('the same')) expect(shadowed(narrow, wide)).toBe(false);
  });

  test.each([
    ['other filesystems', by('one'), `${by('one')}file-systems = ["erofs"]`],
    ['other names', `${by('one')}images = ["a/*"]`, `${by('one')}images = ["a/b", "a/b/c"]`],
    ['another format', by('one'), `${by('one')}formats = ["ssh"]`],
    ['who has to ask', 'unsigned = true', zeros],
    ['everybody behind every number', `${by('one')}users = ["0-4294967294"]`, `${by('one')}users = ["*"]`],
    ['a rule that never holds', `${zeros}images = ["**"]`, `${zeros}${by('one')}`],
  ])('a rule is not in the way of another: %s', (_what, first, second) => {
    const warnings = policyWarnings(
      policyOf(one.toml + two.toml + rule('a', first) + rule('b', second)),
      now,
    );
    expect(warnings.filter((warning) => warning.includes('never decides'))).toEqual([]);
  });

  test('are none for a policy that is right', () => {
    const text = `${stores}[[image-directories]]\npath = "/images"\n${rule('r', 'locations = ["/images/x"]\nstores = ["c"]')}`;
    expect(policyWarnings(policyOf(text), now)).toEqual([]);
  });
});
