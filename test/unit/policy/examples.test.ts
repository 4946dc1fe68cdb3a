import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Digest } from '../../../src/base/digest.ts';
import { parseDigest } from '../../../src/base/digest.ts';
import { decide } from '../../../src/policy/decide.ts';
import { loadPolicy } from '../../../src/policy/load.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Question } from '../../../src/policy/question.ts';
import { policyWarnings } from '../../../src/policy/warnings.ts';
import type { Statement } from '../../../src/trust/statement.ts';
import { imageDigest, questionOf, root, user } from './policy-of.ts';

const folder = resolve(import.meta.dirname, '../../../policy');

function load(path: string): Policy {
  return loadPolicy([join(folder, path)], { owners: 'warn' }).policy;
}

/** What the policy says to a question: the rule that lets the image in, or the kind of the refusal. */
function outcome(policy: Policy, more: Partial<Question>): string {
  const decision = decide(policy, questionOf(policy, [], more));
  return decision.outcome === 'allow' ? `rule ${decision.rule.name}` : decision.refusal.kind;
}

/** What is proved where these keys of the policy have signed. The private halves of the examples' keys are gone. */
function signed(
  policy: Policy,
  statement: Partial<Statement>,
  ...ids: readonly string[]
): Pick<Question, 'verification'> {
  const signers = ids.map((id) => policy.keys.get(id)?.key.id).filter((id) => id !== undefined);
  const whole: Statement = { name: 'example', digest: imageDigest, fileSystem: 'composefs', ...statement };
  return {
    verification: {
      statements: [{ statement: whole, signers, unknownKeyIds: [] }],
      digestSignatures: [],
      faults: [],
    },
  };
}

function digestOf(digit: string): Digest {
  const digest = parseDigest(`sha256:${digit.repeat(64)}`);
  if (digest === undefined) throw new RangeError('no digit');
  return digest;
}

test('the default policy lets nothing in', () => {
  const policy = load('default');
  expect(policy.rules).toEqual([]);
  expect(policy.keys.size).toBe(0);
  expect(outcome(policy, { caller: root, allowUnsigned: true, location: '/usr/lib/cfs-images/a.cfs' })).toBe(
    'DeniedByPolicy',
  );
});

test.each(readdirSync(join(folder, 'examples')))('the example %s loads and warns of nothing', (name) => {
  // The one that shows how a key is revoked says so.
  const expected = name === 'revocation' ? [expect.stringContaining('key "site-2026" is revoked')] : [];
  expect(policyWarnings(load(join('examples', name)), new Date('2026-06-01T00:00:00Z'))).toEqual(expected);
});

describe('the example', () => {
  test('distribution takes either key in its time, and versions that go on', () => {
    const policy = load('examples/distribution');
    const name = 'registry.example.org/distro/base';
    const by = (id: string, version?: number): Partial<Question> =>
      signed(policy, { name, ...(version !== undefined && { version }) }, id);
    expect(outcome(policy, by('distro-2025', 7))).toBe('rule distro images for everyone');
    expect(outcome(policy, { ...by('distro-2025', 7), now: new Date('2026-12-01T00:00:00Z') })).toBe(
      'Expired',
    );
    expect(outcome(policy, { ...by('distro-2026', 7), now: new Date('2026-12-01T00:00:00Z') })).toBe(
      'rule distro images for everyone',
    );
    expect(outcome(policy, { ...by('distro-2026', 7), newestVersion: () => 8 })).toBe('RolledBack');
    expect(outcome(policy, by('distro-2026'))).toBe('DeniedByPolicy');
    expect(outcome(policy, signed(policy, { name: 'elsewhere', version: 1 }, 'distro-2026'))).toBe(
      'DeniedByPolicy',
    );
    expect(outcome(policy, {})).toBe('NotSigned');
  });

  test('two-signers wants both, and lets root try', () => {
    const policy = load('examples/two-signers');
    const version = 1;
    expect(outcome(policy, signed(policy, { version }, 'vendor', 'site'))).toBe('rule tested images');
    expect(outcome(policy, signed(policy, { version }, 'vendor'))).toBe('KeyNotTrusted');
    expect(outcome(policy, { ...signed(policy, { version }, 'site'), caller: root })).toBe(
      'rule images under test',
    );
  });

  test('two-of-three wants any two of them, who say the same', () => {
    const policy = load('examples/two-of-three');
    const by = (name: string, ...ids: readonly string[]): Partial<Question> =>
      signed(policy, { name, version: 1 }, ...ids);
    const internal = 'internal.example.com/base';
    expect(outcome(policy, by(internal, 'security', 'operations'))).toBe('rule two of three');
    expect(outcome(policy, by(internal, 'security'))).toBe('KeyNotTrusted');
    // The vendor's key speaks for the vendor's images alone.
    expect(outcome(policy, by(internal, 'vendor', 'operations'))).toBe('KeyNotTrusted');
    expect(outcome(policy, by('vendor.example.com/db', 'vendor', 'operations'))).toBe('rule two of three');
    expect(outcome(policy, by('elsewhere/db', 'security', 'operations'))).toBe('DeniedByPolicy');
  });

  test('nightly takes what has not expired, but for the skew of a clock', () => {
    const policy = load('examples/nightly');
    const name = 'ci.example.org/nightly/base';
    const expires = new Date('2026-06-01T00:00:00Z');
    const at = (time: string): string =>
      outcome(policy, { ...signed(policy, { name, version: 1, expires }, 'ci'), now: new Date(time) });
    expect(at('2026-05-31T12:00:00Z')).toBe('rule nightly images for testers');
    expect(at('2026-06-01T00:04:59Z')).toBe('rule nightly images for testers');
    expect(at('2026-06-01T00:05:00Z')).toBe('Expired');
    expect(outcome(policy, signed(policy, { name: 'ci.example.org/release', version: 1 }, 'ci'))).toBe(
      'DeniedByPolicy',
    );
    const nextYear = { ...signed(policy, { name, version: 9 }, 'ci'), now: new Date('2027-01-02T00:00:00Z') };
    expect(outcome(policy, nextYear)).toBe('Expired');
    expect(outcome(policy, { ...signed(policy, { name, version: 1 }, 'ci'), caller: user(2000) })).toBe(
      'DeniedByPolicy',
    );
  });

  test('developer-machine takes what its user signed, and for root what it asks for', () => {
    const policy = load('examples/developer-machine');
    const mine = { ...signed(policy, {}, 'me'), clientStores: true };
    expect(decide(policy, questionOf(policy, [], mine))).toMatchObject({
      outcome: 'allow',
      rule: { name: 'what I signed' },
      constraints: { verity: 'require' },
    });
    expect(outcome(policy, { ...mine, caller: user(1001) })).toBe('DeniedByPolicy');
    expect(outcome(policy, { caller: root, allowUnsigned: true })).toBe('rule what I try as root');
    expect(outcome(policy, { allowUnsigned: true })).not.toMatch(/^rule/);
  });

  test('revocation takes one key and one image back by a file of its own', () => {
    const policy = load('examples/revocation');
    const name = 'site.example.org/base';
    const now = new Date('2027-02-01T00:00:00Z');
    const by = (...ids: readonly string[]): Partial<Question> => {
      return { ...signed(policy, { name, version: 1 }, ...ids), now };
    };
    expect(outcome(policy, by('site-2026'))).toBe('KeyNotTrusted');
    expect(outcome(policy, by('site-2027'))).toBe('rule site images');
    expect(outcome(policy, by('site-2026', 'site-2027'))).toBe('rule site images');
    expect(outcome(policy, { ...by('site-2027'), digest: digestOf('3') })).toBe('DeniedByPolicy');
    const before = { ...policy, revokedKeys: new Set<never>(), revokedDigests: new Set<never>() };
    expect(outcome(before, by('site-2026'))).toBe('rule site images');
    expect(outcome(before, { ...by('site-2027'), now: new Date('2026-12-31T00:00:00Z') })).toBe('Expired');
  });

  test('pinned takes one digest, and no longer the other', () => {
    const policy = load('examples/pinned');
    expect(outcome(policy, { caller: user(990), digest: digestOf('1') })).toBe('rule appliance');
    expect(outcome(policy, { caller: user(990), digest: digestOf('2') })).toBe('DeniedByPolicy');
    expect(outcome(policy, { caller: user(991), digest: digestOf('1') })).toBe('DeniedByPolicy');
  });

  test('installed goes by where the image lies', () => {
    const policy = load('examples/installed');
    expect(outcome(policy, { location: '/usr/lib/cfs-images/base.cfs' })).toBe('rule installed images');
    expect(outcome(policy, {})).toBe('DeniedByPolicy');
  });

  test('without-fs-verity uses its trusted store', () => {
    const policy = load('examples/without-fs-verity');
    const decision = decide(policy, questionOf(policy, [], signed(policy, {}, 'site')));
    expect(decision).toMatchObject({
      outcome: 'allow',
      constraints: { verity: 'ifPresent', stores: [{ name: 'system' }] },
    });
    expect(outcome(policy, { ...signed(policy, {}, 'site'), verity: 'require' })).toBe('DeniedByPolicy');
  });

  test('developers takes directories of theirs, fully checked', () => {
    const policy = load('examples/developers');
    const name = 'team.example.org/app';
    const question = questionOf(policy, [], {
      ...signed(policy, { name }, 'team'),
      clientStores: true,
      verity: 'never',
    });
    expect(decide(policy, question)).toMatchObject({
      outcome: 'allow',
      constraints: { verity: 'require', clientStores: true },
    });
    expect(outcome(policy, signed(policy, { name: 'other.example.org/app' }, 'team'))).toBe('KeyNotTrusted');
    expect(outcome(policy, { ...signed(policy, { name }, 'team'), caller: user(1100) })).toBe(
      'DeniedByPolicy',
    );
  });

  test('root-unsigned is for root that asks', () => {
    const policy = load('examples/root-unsigned');
    expect(outcome(policy, { caller: root, allowUnsigned: true })).toBe('rule root as ever');
    expect(outcome(policy, { caller: root })).toBe('NotSigned');
    expect(outcome(policy, { caller: user(0, 0), allowUnsigned: true })).toBe('DeniedByPolicy');
  });
});
