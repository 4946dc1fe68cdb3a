import { expect, test } from 'vitest';
import { digestFromBytes } from '../../src/base/digest.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Policy } from '../../src/policy/policy.ts';
import type { Question } from '../../src/policy/question.ts';
import { parseCertificate } from '../../src/trust/certificate.ts';
import type { CertificatePath } from '../../src/trust/certificate-path.ts';
import { makeCertificate, newKey, pemOf } from '../support/certificates.ts';
import { policyOf, user } from '../unit/policy/policy-of.ts';
import { Random } from '../support/random.ts';

const digest = digestFromBytes(new Uint8Array(32).fill(7));
const dates = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2027-01-01T00:00:00Z') };

const root = newKey();
const files = new Map([
  ['root', makeCertificate(root, root, { authority: {}, usage: 0x04, subject: 'root', ...dates })],
  ...['a', 'b', 'c'].map((id) => {
    const key = newKey();
    return [id, makeCertificate(key, root, { usage: 0x80, issuer: 'root', ...dates })] as const;
  }),
]);
const ids = [...files.keys()];
const keyIds = new Map(ids.map((id) => [id, parseCertificate(files.get(id) ?? new Uint8Array()).key.id]));
const keyIdOf = (id: string): NonNullable<ReturnType<typeof keyIds.get>> => {
  const found = keyIds.get(id);
  if (found === undefined) throw new RangeError(id);
  return found;
};

/** Three rules, each of one of the kinds that may be written. */
function anyPolicy(random: Random): Policy {
  const flag = (): boolean => random.below(2) === 0;
  const rules = [0, 1, 2].map((index) => {
    const signedBy = ids.filter(flag);
    const some = signedBy.length === 0 ? ids : signedBy;
    const formats = random.pick([
      ['dsse'],
      ['ssh'],
      ['fsverity-pkcs7'],
      ['dsse', 'ssh'],
      ['dsse', 'ssh', 'fsverity-pkcs7'],
    ]);
    const bare = formats.some((format) => format !== 'dsse');
    return [
      `[[rules]]\nname = "${index}"\nsigned-by = ${JSON.stringify(some)}\nformats = ${JSON.stringify(formats)}`,
      `threshold = ${1 + random.below(some.length)}`,
      `file-systems = ${JSON.stringify(bare ? [random.pick(['erofs', 'composefs'])] : ['erofs', 'composefs'])}`,
      ...(!bare && flag() ? ['images = ["example/**"]'] : []),
      ...(!bare && flag() ? ['rollback-protection = true'] : []),
    ].join('\n');
  });
  const revoked =
    random.below(4) === 0 ? `[[revoked]]\nkey = "${keyIdOf(random.pick(['a', 'b', 'root']))}"` : '';
  const keys = ids.map(
    (id) => `[[keys]]\nid = "${id}"\nfile = "${id}.crt"\n${id === 'root' ? 'authority = true\n' : ''}`,
  );
  const certificates = Object.fromEntries([...files].map(([id, der]) => [`${id}.crt`, pemOf(der)]));
  return policyOf([...keys, ...rules, revoked].join('\n'), certificates);
}

type Verification = Question['verification'];

/** Who signed what; every certificate that a, b or c signed by leads to itself and to its authority. */
function anyEvidence(random: Random): Verification {
  const some = (): string[] => ids.filter(() => random.below(2) === 0);
  const statement = {
    name: random.pick(['example/app', 'other']),
    digest,
    fileSystem: random.pick(['erofs', 'composefs'] as const),
    version: random.below(3),
    ...(random.below(3) === 0 && { expires: new Date('2026-02-01T00:00:00Z') }),
  };
  const leaves = some().filter((id) => id !== 'root');
  const paths: CertificatePath[] = leaves.flatMap((id) => [
    { anchor: keyIdOf(id), keys: [keyIdOf(id)], ...dates },
    { anchor: keyIdOf('root'), keys: [keyIdOf(id), keyIdOf('root')], ...dates },
  ]);
  return {
    statements: [{ statement, signers: some().map(keyIdOf), unknownKeyIds: [] }],
    digestSignatures: [
      { format: 'ssh', signers: some().map(keyIdOf), unknownKeyIds: [] },
      { format: 'fsverity-pkcs7', signers: paths.map(({ anchor }) => anchor), unknownKeyIds: [], paths },
    ],
    faults: [],
  };
}

function ask(policy: Policy, verification: Verification, fileSystem?: 'erofs'): ReturnType<typeof decide> {
  return decide(policy, {
    caller: user(1000),
    digest,
    fileSystem,
    verification,
    allowUnsigned: false,
    clientStores: false,
    now: new Date('2026-06-01T00:00:00Z'),
    newestVersion: () => 1,
  });
}

test('whoever drops the envelope and shows other signatures of the digest opens nothing more', () => {
  const random = new Random(21);
  let opened = 0;
  for (let round = 0; round < 150; round++) {
    const policy = anyPolicy(random);
    for (let question = 0; question < 20; question++) {
      const where = `seed ${random.seed}, round ${round}.${question}`;
      const all = anyEvidence(random);
      const bare = { ...all, statements: [] };
      const asked = random.pick([undefined, 'erofs'] as const);
      const decision = ask(policy, bare, asked);
      if (decision.outcome === 'allow') {
        opened++;
        const { rule, constraints, evidence } = decision;
        // Only what a rule that takes such signatures says, which names neither image nor version, and one filesystem.
        expect(
          rule.formats.some((format) => format !== 'dsse'),
          where,
        ).toBe(true);
        expect([rule.images, rule.rollbackProtection, constraints.rollback], where).toEqual([
          undefined,
          false,
          undefined,
        ]);
        expect([constraints.fileSystem], where).toEqual(rule.fileSystems);
        expect([evidence.name, evidence.version], where).toEqual([undefined, undefined]);
        // As many have signed as the rule asks for: not more words than signatures.
        const signers = new Set([
          ...(rule.formats.includes('ssh') ? (bare.digestSignatures[0]?.signers ?? []) : []),
          ...(rule.formats.includes('fsverity-pkcs7')
            ? (bare.digestSignatures[1]?.paths ?? []).flatMap(({ keys }) => keys.slice(0, 1))
            : []),
        ]);
        expect([...signers].filter((id) => !policy.revokedKeys.has(id)).length, where).toBeGreaterThanOrEqual(
          rule.threshold,
        );
      }
      // To rules that take envelopes alone, other signatures are nothing, whatever stands beside them.
      const strict = { ...policy, rules: policy.rules.filter(({ formats }) => String(formats) === 'dsse') };
      expect(ask(strict, bare, asked).outcome, where).toBe('deny');
      expect(ask(strict, all, asked).outcome, where).toBe(
        ask(strict, { ...all, digestSignatures: [] }, asked).outcome,
      );
      // Nor does a rule see formats that it does not name.
      const without = policy.rules.filter(({ formats }) => !formats.includes('fsverity-pkcs7'));
      expect(ask({ ...policy, rules: without }, all, asked).outcome, where).toBe(
        ask(
          { ...policy, rules: without },
          { ...all, digestSignatures: all.digestSignatures.slice(0, 1) },
          asked,
        ).outcome,
      );
    }
  }
  expect(opened).toBeGreaterThan(100);
});

test('without a right, or with one more revocation, no more is let in', () => {
  const random = new Random(22);
  let allowed = 0;
  for (let round = 0; round < 150; round++) {
    const policy = anyPolicy(random);
    const [first] = policy.rules;
    if (first === undefined) continue;
    for (let question = 0; question < 20; question++) {
      const evidence = anyEvidence(random);
      if (ask({ ...policy, rules: [first] }, evidence).outcome === 'allow') {
        allowed++;
        continue;
      }
      const where = `seed ${random.seed}, round ${round}.${question}`;
      const revokedKeys = new Set([...policy.revokedKeys, keyIdOf(random.pick(['a', 'b', 'c', 'root']))]);
      const keys = new Map([...policy.keys].map(([id, key]) => [id, { ...key, authority: false }]));
      const threshold = first.threshold + 1;
      for (const less of [{ revokedKeys }, { keys }, { rules: [{ ...first, threshold }] }])
        expect(ask({ ...policy, rules: [first], ...less }, evidence).outcome, where).toBe('deny');
    }
  }
  expect(allowed).toBeGreaterThan(100);
});
