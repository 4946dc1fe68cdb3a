import { describe, expect, test } from 'vitest';
import { decide } from '../../../src/policy/decide.ts';
import { parsePattern } from '../../../src/policy/pattern.ts';
import type { Policy, Rule } from '../../../src/policy/policy.ts';
import { verityLevels } from '../../../src/policy/policy.ts';
import type { Decision, Question } from '../../../src/policy/question.ts';
import type { Verification } from '../../../src/trust/verify.ts';
import { Random } from '../../support/random.ts';
import { imageDigest, makeKey, policyOf, questionOf, root, user } from './policy-of.ts';

const rounds = 4000;
const names = ['one', 'two', 'three'] as const;
const made = names.map((name) => makeKey(name, name === 'three' ? 'names = ["example/**"]' : ''));
const stores = ['checked', 'trusted'].map(
  (name) =>
    `[[stores]]\nname = "${name}"\npath = "/${name}"\nverity = "${name === 'trusted' ? name : 'require'}"\n`,
);
const base = policyOf(
  [
    ...made.map(({ toml }) => toml),
    '[[keys]]\nid = "ring"\nkeyring = ".fs-verity"\n',
    ...stores,
    '[[rules]]\nname = "r"\nunsigned = true\n',
  ].join(''),
);
const keyIds = [...base.keys.values()].map(({ key }) => key.id);

const signers = [...names, 'ring'];

/** Some of the values, in their order; at least one unless none will do. */
function some<Value>(random: Random, values: readonly Value[]): readonly Value[] {
  const chosen = values.filter(() => random.below(2) === 0);
  return chosen.length > 0 ? chosen : values.slice(0, 1);
}

function maybe<Value>(random: Random, make: () => Value): Value | undefined {
  return random.below(2) === 0 ? make() : undefined;
}

function anyRule(random: Random, name: string): Rule {
  const [template] = base.rules;
  if (template === undefined) throw new RangeError('the base policy has a rule');
  const flag = (): boolean => random.below(2) === 0;
  const kind = random.pick(['signed', 'signed', 'signed', 'digests', 'locations', 'unsigned']);
  const signedBy = kind === 'signed' ? some(random, signers) : undefined;
  return {
    ...template,
    name,
    users: maybe(random, () =>
      some(
        random,
        [1000, 1001, 0].map((id) => ({ kind: 'ids', first: id, last: id }) as const),
      ),
    ),
    groups: random.below(4) === 0 ? [500] : undefined,
    images:
      kind === 'signed' && flag() ? some(random, ['example/*', 'other/**'].map(parsePattern)) : undefined,
    digests: kind === 'digests' ? new Set([imageDigest]) : undefined,
    locations: kind === 'locations' ? ['/images'] : undefined,
    signedBy,
    threshold: 1 + random.below(signedBy?.length ?? 1),
    formats: some(random, ['dsse', 'ssh', 'fsverity-pkcs7'] as const),
    unsigned: kind === 'unsigned',
    fileSystems: some(random, ['composefs', 'erofs'] as const),
    stores: some(random, ['checked', 'trusted']),
    clientStores: flag(),
    verity: random.pick(verityLevels),
    devices: flag(),
    rollbackProtection: random.below(3) === 0,
  };
}

function anyPolicy(random: Random, rules = 1 + random.below(4)): Policy {
  return {
    ...base,
    revokedKeys: new Set(random.below(4) === 0 ? [random.pick(asList(keyIds))] : []),
    rules: Array.from({ length: rules }, (_, index) => anyRule(random, `rule ${index}`)),
  };
}

function asList<Value>(values: readonly Value[]): readonly [Value, ...Value[]] {
  const [first, ...others] = values;
  if (first === undefined) throw new RangeError('an empty list');
  return [first, ...others];
}

function anyVerification(random: Random): Verification {
  return {
    statements: Array.from({ length: random.below(3) }, () => ({
      statement: {
        name: random.pick(['example/app', 'other/app']),
        digest: imageDigest,
        fileSystem: random.pick(['composefs', 'composefs', 'erofs']),
        ...maybe(random, () => ({ version: random.below(4) })),
        ...(random.below(4) === 0 && { expires: new Date('2026-01-01T00:00:00Z') }),
      },
      signers: some(random, keyIds),
      unknownKeyIds: [],
    })),
    digestSignatures:
      random.below(2) === 0 ? [] : [{ format: 'ssh', signers: some(random, keyIds), unknownKeyIds: [] }],
    keyringSignatures: Array.from({ length: random.below(2) }, () => ({
      keyring: random.pick(['.fs-verity', '.another']),
      key: random.pick([undefined, ...keyIds]),
    })),
    faults: [],
  };
}

function anyQuestion(random: Random): Question {
  const flag = (): boolean => random.below(2) === 0;
  const newest = maybe(random, () => random.below(4));
  return {
    ...questionOf(base, []),
    caller: random.pick([root, user(1000), user(1001, 500)]),
    verification: anyVerification(random),
    location: maybe(random, () => '/images/a.cfs'),
    fileSystem: random.below(4) === 0 ? random.pick(['composefs', 'erofs']) : undefined,
    allowUnsigned: flag(),
    verity: maybe(random, () => random.pick(verityLevels)),
    stores: random.pick([undefined, ['checked'], ['trusted']]),
    clientStores: random.below(4) === 0,
    contents: {
      fileSystem: random.pick(['composefs', 'composefs', 'erofs']),
      devices: random.below(3) === 0,
      missingDigest: random.below(4) === 0,
    },
    newestVersion: () => newest,
  };
}

/** One thing that the rule grants, taken away; undefined where it did not grant it. */
const restrictions: Readonly<Record<string, (rule: Rule, random: Random) => Rule | undefined>> = {
  users: (rule) => ({ ...rule, users: (rule.users ?? [{ kind: 'everybody' }]).slice(1) }),
  'one user': (rule) => ({ ...rule, users: [{ kind: 'ids', first: 4242, last: 4242 }] }),
  groups: (rule) => ({ ...rule, groups: [42] }),
  images: (rule) => rule.images && { ...rule, images: rule.images.slice(1) },
  digests: (rule) => rule.digests && { ...rule, digests: new Set() },
  locations: (rule) => rule.locations && { ...rule, locations: ['/images/deeper'] },
  'a signer': (rule, random) => {
    const taken = rule.signedBy === undefined ? 0 : random.below(rule.signedBy.length);
    return rule.signedBy && { ...rule, signedBy: rule.signedBy.filter((_, at) => at !== taken) };
  },
  threshold: (rule) => rule.signedBy && { ...rule, threshold: rule.threshold + 1 },
  'a format': (rule) => (rule.formats.length > 1 ? { ...rule, formats: rule.formats.slice(1) } : undefined),
  unsigned: (rule) => (rule.unsigned ? { ...rule, unsigned: false, digests: new Set() } : undefined),
  'a filesystem': (rule) => ({ ...rule, fileSystems: rule.fileSystems.slice(1) }),
  'any name': (rule) =>
    rule.images === undefined && rule.signedBy
      ? { ...rule, images: [parsePattern('example/app')] }
      : undefined,
};

/** What is demanded of an image once the rule has decided. */
const demands: Readonly<Record<string, (rule: Rule, question: Question) => Rule | undefined>> = {
  // Where none is asked for, fewer stores are another way to mount, and not less of the same.
  stores: (rule, { stores }) => (stores === undefined ? undefined : { ...rule, stores: [] }),
  'client stores': (rule) => ({ ...rule, clientStores: false }),
  verity: (rule) => ({ ...rule, verity: 'require' }),
  devices: (rule) => ({ ...rule, devices: false }),
  rollback: (rule) => ({ ...rule, rollbackProtection: true }),
};

function allows(policy: Policy, question: Question): boolean {
  return decide(policy, question).outcome === 'allow';
}

/** Whether the rule that let an image in, as it was before, lets it in by itself. */
function wasAllowed(before: Policy, decision: Decision, question: Question): boolean {
  if (decision.outcome === 'deny') return true;
  const rule = before.rules.find(({ name }) => name === decision.rule.name);
  return rule !== undefined && allows({ ...before, rules: [rule] }, question);
}

/** Runs `round` often, each with a policy and a question of its own; it answers whether anything was allowed. */
function often(salt: number, round: (random: Random, where: string) => boolean): void {
  const random = new Random(salt);
  let allowed = 0;
  for (let count = 0; count < rounds; count++) {
    if (round(random, `seed ${random.seed}, round ${count}`)) allowed++;
  }
  // A generator that never gets anything let in proves nothing.
  expect(allowed).toBeGreaterThan(rounds / 50);
}

describe('whatever is asked', () => {
  test('a policy without a rule allows nothing', () => {
    often(1, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      expect(allows({ ...policy, rules: [] }, question), where).toBe(false);
      return allows(policy, question);
    });
  });

  test.each(Object.keys(restrictions))('a rule that grants less allows no more: %s', (name) => {
    often(2, (random, where) => {
      const rule = anyRule(random, 'r');
      const question = anyQuestion(random);
      const before = { ...anyPolicy(random), rules: [rule] };
      const less = restrictions[name]?.(rule, random);
      const allowed = less !== undefined && allows({ ...before, rules: [less] }, question);
      if (allowed) expect(allows(before, question), where).toBe(true);
      return less === undefined || name.startsWith('one') || allows(before, question);
    });
  });

  test.each(Object.keys(demands))('a policy of which one rule demands more allows no more: %s', (name) => {
    often(3, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      const at = random.below(policy.rules.length);
      const rules = policy.rules.map((rule, index) =>
        index === at ? (demands[name]?.(rule, question) ?? rule) : rule,
      );
      const allowed = allows({ ...policy, rules }, question);
      if (allowed) expect(allows(policy, question), where).toBe(true);
      return allowed;
    });
  });

  test('without a key, or with one revoked, no rule allows more', () => {
    often(4, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      const [id, { key }] = random.pick(asList([...policy.keys]));
      const without = { ...policy, keys: new Map([...policy.keys].filter(([other]) => other !== id)) };
      const revoking = { ...policy, revokedKeys: new Set([...policy.revokedKeys, key.id]) };
      for (const less of [without, revoking])
        expect(wasAllowed(policy, decide(less, question), question), where).toBe(true);
      // A key that is revoked does nothing that could not be done without it.
      expect(wasAllowed(without, decide(revoking, question), question), where).toBe(true);
      return allows(revoking, question);
    });
  });

  test('without a rule that allows, no other rule allows more', () => {
    often(5, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      const rules = policy.rules.filter(() => random.below(2) === 0);
      const decision = decide({ ...policy, rules }, question);
      expect(wasAllowed(policy, decision, question), where).toBe(true);
      return decision.outcome === 'allow';
    });
  });

  test('a revoked digest is let in by no policy', () => {
    often(6, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      expect(allows({ ...policy, revokedDigests: new Set([imageDigest]) }, question), where).toBe(false);
      return allows(policy, question);
    });
  });

  test('less evidence opens no more: every rule that lets an image in does so with all of it shown', () => {
    often(7, (random, where) => {
      const policy = anyPolicy(random);
      const whole = anyQuestion(random);
      const { statements, digestSignatures, keyringSignatures = [] } = whole.verification;
      const keep = (): boolean => random.below(2) === 0;
      const less = {
        statements: statements.filter(keep).map((each) => ({ ...each, signers: each.signers.filter(keep) })),
        digestSignatures: digestSignatures.filter(keep).map((each) => {
          return { ...each, signers: each.signers.filter(keep) };
        }),
        keyringSignatures: keyringSignatures.filter(keep),
        faults: [],
      };
      const decision = decide(policy, { ...whole, verification: less });
      expect(wasAllowed(policy, decision, whole), where).toBe(true);
      return decision.outcome === 'allow';
    });
  });

  test('a policy of one rule: less evidence never turns a refusal into the opposite', () => {
    often(8, (random, where) => {
      const policy = anyPolicy(random, 1);
      const whole = anyQuestion(random);
      const [, ...statements] = whole.verification.statements;
      const question = { ...whole, verification: { ...whole.verification, statements } };
      if (allows(policy, question)) expect(allows(policy, whole), where).toBe(true);
      return allows(policy, question);
    });
  });

  test('later rules, keys beside those that sign, and the order of the signatures change nothing that is allowed', () => {
    often(9, (random, where) => {
      const policy = anyPolicy(random);
      const question = anyQuestion(random);
      const decision = decide(policy, question);
      if (decision.outcome === 'deny') return false;
      const more = { ...policy, rules: [...policy.rules, anyRule(random, 'later')] };
      expect(decide(more, question), where).toEqual(decision);
      const { statements } = question.verification;
      const turned = { ...question.verification, statements: statements.toReversed() };
      expect(allows(policy, { ...question, verification: turned }), where).toBe(true);
      return true;
    });
  });
});
