import { describe, expect, test } from 'vitest';
import { decide } from '../../../src/policy/decide.ts';
import { explain } from '../../../src/policy/explain.ts';
import type { Question } from '../../../src/policy/question.ts';
import { policyWarnings } from '../../../src/policy/warnings.ts';
import {
  faultsOf,
  imageDigest,
  makeKey,
  policyOf,
  questionOf,
  root,
  signatureFile,
  user,
} from './policy-of.ts';

const key = makeKey('one');
const stores = ['a', 'b', 'c']
  .map((name) => `[[stores]]\nname = "${name}"\npath = "/${name}"\nverity = "trusted"\n`)
  .join('');
const base = `${key.toml}${stores}`;
const rule = (name: string, body: string): string => `[[rules]]\nname = "${name}"\n${body}\n`;
const adding = 'signed-by = ["one"]\nstores = ["a", "b"]\nadd-objects = ["a", "b"]\n';

/** What the policy says to a caller that would add files of a signed image to `store`. */
function ask(text: string, store: string | undefined, more: Partial<Question> = {}): unknown {
  const policy = policyOf(base + text);
  const question = questionOf(policy, [signatureFile({}, key.key)], { addTo: { store }, ...more });
  const decision = decide(policy, question);
  if (decision.outcome === 'deny') return [decision.refusal.kind, decision.refusal.message];
  const { addTo } = decision.constraints;
  return [decision.rule.name, addTo?.store.name, addTo?.bytesPerHour];
}

describe('add-objects', () => {
  test('lets callers of the rule add to the stores that it names, the first where none is asked for', () => {
    const text = rule('r', `${adding}add-bytes-per-hour = 4096`);
    expect(ask(text, 'b')).toEqual(['r', 'b', 4096]);
    expect(ask(text, undefined)).toEqual(['r', 'a', 4096]);
    expect(ask(rule('r', adding), 'a')).toEqual(['r', 'a', undefined]);
  });

  test('does not ask about stores and verity of a mount', () => {
    // A mount would be refused: the rule demands what a trusted store never meets.
    const text = rule('r', adding);
    const policy = policyOf(base + text);
    const signed = [signatureFile({}, key.key)];
    expect(decide(policy, questionOf(policy, signed))).toMatchObject({ outcome: 'deny' });
    expect(ask(text, 'a')).toEqual(['r', 'a', undefined]);
  });

  test.each([
    ['a store that the rule does not name', adding, 'c', 'DeniedByPolicy', '"a", "b", not to "c"'],
    ['a store that the policy does not have', adding, 'd', 'StoreNotFound', 'no store "d"'],
    ['a rule without it', 'signed-by = ["one"]\nstores = ["a"]', 'a', 'DeniedByPolicy', 'lets nobody add'],
    ['a rule without it, any store', 'signed-by = ["one"]', undefined, 'DeniedByPolicy', 'lets nobody add'],
    ['another user', `users = ["bob"]\n${adding}`, 'a', 'DeniedByPolicy', 'is not for user 1000'],
  ])('refuses %s', (_what, body, store, kind, message) => {
    expect(ask(rule('r', body), store)).toEqual([kind, expect.stringContaining(message)]);
  });

  test('needs what a mount needs of the image: signature, validity, version, devices', () => {
    const policy = policyOf(base + rule('r', adding));
    const addTo = { store: 'a' };
    expect(decide(policy, questionOf(policy, [], { addTo }))).toMatchObject({
      refusal: { kind: 'NotSigned' },
    });
    const expired = signatureFile({ expires: new Date('2026-01-01T00:00:00Z') }, key.key);
    expect(decide(policy, questionOf(policy, [expired], { addTo }))).toMatchObject({
      refusal: { kind: 'Expired' },
    });
    expect(
      ask(rule('r', adding), 'a', {
        contents: { fileSystem: 'composefs', devices: true, missingDigest: false },
      }),
    ).toEqual(['IncompatibleImage', expect.stringContaining('device nodes')]);
    const old = signatureFile({ version: 1 }, key.key);
    const kept = policyOf(base + rule('r', `${adding}rollback-protection = true`));
    const question = questionOf(kept, [old], { addTo, newestVersion: () => 2 });
    expect(decide(kept, question)).toMatchObject({ refusal: { kind: 'RolledBack' } });
  });

  test('is for composefs images', () => {
    const policy = policyOf(base + rule('r', `${adding}file-systems = ["composefs", "erofs"]`));
    const erofs = signatureFile({ fileSystem: 'erofs' }, key.key);
    expect(decide(policy, questionOf(policy, [erofs], { addTo: { store: 'a' } }))).toMatchObject({
      refusal: { kind: 'IncompatibleImage' },
    });
  });

  test('the first rule that decides says it, and no later one is asked', () => {
    const text = rule('strict', 'signed-by = ["one"]') + rule('lax', adding);
    expect(ask(text, 'a')).toEqual(['DeniedByPolicy', expect.stringContaining('rule "strict"')]);
  });

  test('a revoked image gets nothing', () => {
    const text = `[[revoked]]\ndigest = "${imageDigest}"\n${rule('r', adding)}`;
    expect(ask(text, 'a')).toEqual(['DeniedByPolicy', expect.stringContaining('revoked')]);
  });

  test('is explained like the other checks', () => {
    const policy = policyOf(base + rule('r', adding));
    const question = questionOf(policy, [signatureFile({}, key.key)], { addTo: { store: 'c' } });
    expect(explain(policy, question).rules[0]?.checks.map(({ name, holds }) => [name, holds])).toEqual([
      ['unsigned', true],
      ['caller', true],
      ['location', true],
      ['file system', true],
      ['image', true],
      ['signers', true],
      ['validity', true],
      ['version', true],
      ['contents', true],
      ['add-objects', false],
    ]);
  });

  test('a mount is asked nothing of it', () => {
    const policy = policyOf(base + rule('r', `${adding}verity = "if-present"`));
    const decision = decide(policy, questionOf(policy, [signatureFile({}, key.key)]));
    expect(decision).toMatchObject({ outcome: 'allow' });
    expect(decision.outcome === 'allow' && decision.constraints.addTo).toBeUndefined();
  });

  test('an unsigned rule has to be asked for', () => {
    const text = rule('r', 'users = ["alice", "root"]\nunsigned = true\nstores = ["a"]\nadd-objects = ["a"]');
    expect(ask(text, 'a')).toEqual(['DeniedByPolicy', expect.stringContaining('unsigned')]);
    expect(ask(text, 'a', { allowUnsigned: true, caller: root })).toEqual(['r', 'a', undefined]);
    expect(ask(text, 'a', { allowUnsigned: true, caller: user(1001) })).toEqual([
      'DeniedByPolicy',
      expect.stringContaining('user 1001'),
    ]);
  });
});

describe('faults and warnings', () => {
  test.each([
    [`${adding}add-bytes-per-hour = 0`, 'rules[0].add-bytes-per-hour: 0 is below 1'],
    ['signed-by = ["one"]\nadd-bytes-per-hour = 1', 'the rule has no add-objects'],
    [`${adding}add-bytes-per-hour = "1G"`, 'where a whole number is wanted'],
    ['signed-by = ["one"]\nadd-objects = ["x"]', 'no store "x" is defined'],
  ])('%j is a fault', (body, expected) => {
    expect(faultsOf(base + rule('r', body))).toEqual([expect.stringContaining(expected)]);
  });

  test.each([
    ['unsigned = true\nusers = ["root"]\nstores = ["a"]\nadd-objects = ["a"]', 'can add any file'],
    ['signed-by = ["one"]\nstores = ["a"]\nadd-objects = ["a", "b"]', 'to "b", where none of its images'],
    ['signed-by = ["one"]\nfile-systems = ["erofs"]\nadd-objects = ["a"]', 'takes no composefs images'],
  ])('%j is warned of', (body, expected) => {
    const warnings = policyWarnings(policyOf(base + rule('r', body)), new Date('2026-06-01T00:00:00Z'));
    expect(warnings).toContainEqual(expect.stringContaining(expected));
  });
});
