import { describe, expect, test } from 'vitest';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Decision, Question, Refusal } from '../../../src/policy/question.ts';
import { decide } from '../../../src/policy/decide.ts';
import { formatEnvelope, parseEnvelope } from '../../../src/trust/dsse.ts';
import { digestFromBytes } from '../../../src/base/digest.ts';
import type { Statement } from '../../../src/trust/statement.ts';
import { imageDigest, makeKey, policyOf, questionOf, root, signatureFile, user } from './policy-of.ts';

const one = makeKey('one');
const two = makeKey('two');
const stranger = makeKey('stranger');
const keys = one.toml + two.toml;
const stores = `
[[stores]]
name = "checked"
path = "/checked"
verity = "require"
[[stores]]
name = "trusted"
path = "/trusted"
verity = "trusted"
`;

const rule = (body: string, name = 'r'): string => `[[rules]]\nname = "${name}"\n${body}\n`;
const signed = 'signed-by = ["one", "two"]\n';

function ask(policy: Policy, signatures: readonly Uint8Array[], more: Partial<Question> = {}): Decision {
  return decide(policy, questionOf(policy, signatures, more));
}

function refusalOf(decision: Decision): Refusal {
  if (decision.outcome === 'allow') throw new Error(`let in by rule ${decision.rule.name}`);
  return decision.refusal;
}

function allowed(decision: Decision): Extract<Decision, { outcome: 'allow' }> {
  if (decision.outcome === 'deny') throw new Error(decision.refusal.message);
  return decision;
}

describe('a signed image', () => {
  const policy = policyOf(keys + rule(signed));

  test('is let in with the evidence and the constraints of the rule', () => {
    const decision = ask(policy, [signatureFile({ version: 3 }, two.key, one.key)]);
    expect(allowed(decision).evidence).toEqual({
      digest: imageDigest,
      name: 'example/app',
      version: 3,
      signers: ['one', 'two'],
      rule: 'r',
    });
    expect(allowed(decision).constraints).toEqual({
      fileSystem: 'composefs',
      attributes: ['ro', 'nosuid', 'nodev'],
      verity: 'require',
      stores: [],
      clientStores: false,
      rootHashOnly: false,
      devices: false,
      share: 'user',
      rollback: undefined,
    });
  });

  test('without a signature is not signed', () => {
    expect(refusalOf(ask(policy, []))).toEqual({
      kind: 'NotSigned',
      parameters: { digest: imageDigest },
      rule: 'r',
      message: expect.stringMatching(/^rule "r": signers: the image is not signed, .*; sign it/) as string,
    });
  });

  test('with a signature about another image is refused by what the signature says', () => {
    const other = digestFromBytes(new Uint8Array(32).fill(8));
    const refusal = refusalOf(ask(policy, [signatureFile({ digest: other }, one.key)]));
    expect(refusal.kind).toBe('SignatureInvalid');
    expect(refusal.message).toContain(other);
  });

  test('with a changed signature is invalid', () => {
    const envelope = parseEnvelope(signatureFile({}, one.key));
    const signatures = envelope.signatures.map(({ keyid, sig }) => ({
      keyid,
      sig: sig.map((byte) => byte ^ 1),
    }));
    const refusal = refusalOf(ask(policy, [formatEnvelope({ ...envelope, signatures })]));
    expect(refusal.kind).toBe('SignatureInvalid');
    expect(refusal.message).toContain('does not verify');
  });

  test('by a key that the policy does not have is not trusted', () => {
    const refusal = refusalOf(ask(policy, [signatureFile({}, stranger.key)]));
    expect(refusal).toMatchObject({ kind: 'KeyNotTrusted', parameters: { keyIds: [stranger.keyId] } });
    expect(refusal.message).toContain(`${stranger.keyId} (not a key of this policy)`);
  });

  test('by a key that the rule does not name is not trusted', () => {
    const narrow = policyOf(keys + rule('signed-by = ["two"]'));
    const refusal = refusalOf(ask(narrow, [signatureFile({}, one.key)]));
    expect(refusal).toMatchObject({ kind: 'KeyNotTrusted', parameters: { keyIds: [one.keyId] } });
    expect(refusal.message).toContain('"one" (not one of signed-by)');
  });

  test('needs as many distinct keys as the threshold says', () => {
    const strict = policyOf(
      `${keys}${one.toml.replace('"one"', '"uno"')}${rule('signed-by = ["one", "uno", "two"]\nthreshold = 2')}`,
    );
    expect(refusalOf(ask(strict, [signatureFile({}, one.key), signatureFile({}, one.key)])).kind).toBe(
      'KeyNotTrusted',
    );
    expect(
      allowed(ask(strict, [signatureFile({}, one.key), signatureFile({}, two.key)])).evidence.signers,
    ).toEqual(['one', 'two', 'uno']);
  });

  test('does not add up signatures on statements that differ', () => {
    const strict = policyOf(keys + rule(`${signed}threshold = 2`));
    const files = [signatureFile({ version: 1 }, one.key), signatureFile({ version: 2 }, two.key)];
    expect(refusalOf(ask(strict, files)).kind).toBe('KeyNotTrusted');
  });

  test('by a key that may not speak for the name is not trusted', () => {
    const limited = policyOf(makeKeyWith('names = ["other/**"]') + rule('signed-by = ["one"]'));
    const refusal = refusalOf(ask(limited, [signatureFile({}, one.key)]));
    expect(refusal.kind).toBe('KeyNotTrusted');
    expect(refusal.message).toContain('may not speak for "example/app"');
    expect(allowed(ask(limited, [signatureFile({ name: 'other/a/b' }, one.key)])).evidence.name).toBe(
      'other/a/b',
    );
  });

  test('by a revoked key alone is not trusted, and by another too it is', () => {
    const revoking = policyOf(`${keys}[[revoked]]\nkey = "${one.keyId}"\n${rule(signed)}`);
    const refusal = refusalOf(ask(revoking, [signatureFile({}, one.key)]));
    expect(refusal.kind).toBe('KeyNotTrusted');
    expect(refusal.message).toContain('"one" (revoked)');
    expect(allowed(ask(revoking, [signatureFile({}, one.key, two.key)])).evidence.signers).toEqual(['two']);
  });

  test('is of the filesystem that was stated', () => {
    const wide = policyOf(keys + rule(`${signed}file-systems = ["composefs", "erofs"]`));
    const file = signatureFile({ fileSystem: 'erofs' }, one.key);
    expect(allowed(ask(wide, [file])).constraints.fileSystem).toBe('erofs');
    expect(refusalOf(ask(wide, [file], { fileSystem: 'composefs' })).kind).toBe('IncompatibleImage');
    expect(refusalOf(ask(policy, [file]))).toMatchObject({ kind: 'DeniedByPolicy', rule: 'r' });
  });

  test('by name has to match one of the patterns', () => {
    const named = policyOf(keys + rule(`${signed}images = ["a/*", "example/**"]`));
    expect(allowed(ask(named, [signatureFile({}, one.key)])).rule.name).toBe('r');
    expect(refusalOf(ask(named, [signatureFile({ name: 'a/b/c' }, one.key)])).message).toContain(
      'the signed name "a/b/c" matches none of a/*, example/**',
    );
    expect(refusalOf(ask(named, [])).kind).toBe('NotSigned');
  });
});

describe('validity', () => {
  const policy = policyOf(keys + rule(signed) + rule('unsigned = true', 'laxer'));
  const before = new Date('2026-05-31T23:59:59Z');
  const now = new Date('2026-06-01T00:00:00Z');
  const after = new Date('2026-06-01T00:00:01Z');

  test('of a statement begins at notBefore and ends just before expires', () => {
    const asked = { now, allowUnsigned: true };
    expect(
      allowed(ask(policy, [signatureFile({ notBefore: now, expires: after }, one.key)], asked)).rule.name,
    ).toBe('r');
    expect(refusalOf(ask(policy, [signatureFile({ notBefore: after }, one.key)], asked))).toMatchObject({
      kind: 'Expired',
      parameters: { what: 'the statement on "example/app"', at: '2026-06-01T00:00:01Z' },
    });
    expect(refusalOf(ask(policy, [signatureFile({ expires: now }, one.key)], asked)).message).toBe(
      'rule "r": validity: the statement on "example/app" expired at 2026-06-01T00:00:00Z; it has to be signed anew',
    );
  });

  test('reaches as far beyond its ends as the clock may be wrong, and no further', () => {
    const skewed = (keyLimits: string): Policy =>
      policyOf(`[clock]\nskew-seconds = 300\n${makeKeyWith(keyLimits)}${rule('signed-by = ["one"]')}`);
    const at = (seconds: number): Partial<Question> => ({ now: new Date(now.getTime() + seconds * 1000) });
    const statement = [signatureFile({ notBefore: now, expires: now }, one.key)];
    const key = 'not-before = 2026-06-01T00:00:00Z\nnot-after = 2026-06-01T00:00:00Z';
    const plain = [signatureFile({}, one.key)];
    const outcomes = (seconds: number): string[] => [
      ask(skewed(''), statement, at(seconds)).outcome,
      ask(skewed(key), plain, at(seconds)).outcome,
    ];
    expect(outcomes(-300.001)).toEqual(['deny', 'deny']);
    expect(outcomes(-300)).toEqual(['allow', 'allow']);
    expect(outcomes(299.999)).toEqual(['allow', 'allow']);
    expect(outcomes(300)).toEqual(['deny', 'allow']);
    expect(outcomes(300.001)).toEqual(['deny', 'deny']);
    expect(refusalOf(ask(skewed(''), statement, at(-301))).message).toContain(
      "is not valid before 2026-06-01T00:00:00Z, by more than the 300 seconds that the clock may be wrong; is this machine's clock right?",
    );
  });

  test('of a key includes both its ends', () => {
    const dated = (more: string): Policy => policyOf(makeKeyWith(more) + rule('signed-by = ["one"]'));
    const file = [signatureFile({}, one.key)];
    const bounds = dated('not-before = 2026-06-01T00:00:00Z\nnot-after = 2026-06-01T00:00:00Z');
    expect(allowed(ask(bounds, file, { now })).evidence.signers).toEqual(['one']);
    expect(refusalOf(ask(bounds, file, { now: before }))).toMatchObject({
      kind: 'Expired',
      parameters: { what: 'the key "one"', at: '2026-06-01T00:00:00Z' },
    });
    expect(refusalOf(ask(bounds, file, { now: after })).message).toContain('the key "one" expired at');
  });

  test('of enough keys is enough', () => {
    const mixed = policyOf(makeKeyWith('not-after = 2026-01-01T00:00:00Z') + two.toml + rule(signed));
    expect(allowed(ask(mixed, [signatureFile({}, one.key, two.key)], { now })).evidence.signers).toEqual([
      'two',
    ]);
    expect(refusalOf(ask(mixed, [signatureFile({}, one.key)], { now })).kind).toBe('Expired');
  });
});

describe('versions', () => {
  const policy = policyOf(keys + rule(`${signed}rollback-protection = true`));
  const newest = {
    newestVersion: (r: string, name: string) => (r === 'r' && name === 'example/app' ? 5 : undefined),
  };

  test('older than the newest are refused', () => {
    expect(refusalOf(ask(policy, [signatureFile({ version: 4 }, one.key)], newest))).toMatchObject({
      kind: 'RolledBack',
      parameters: { name: 'example/app', version: 4, newest: 5 },
    });
    expect(
      allowed(ask(policy, [signatureFile({ version: 5 }, one.key)], newest)).constraints.rollback,
    ).toEqual({
      rule: 'r',
      name: 'example/app',
      version: 5,
    });
    expect(
      allowed(ask(policy, [signatureFile({ name: 'new', version: 0 }, one.key)], newest)).evidence.version,
    ).toBe(0);
  });

  test('that are missing are refused', () => {
    expect(refusalOf(ask(policy, [signatureFile({}, one.key)]))).toMatchObject({
      kind: 'DeniedByPolicy',
      rule: 'r',
    });
  });
});

describe('what is revoked', () => {
  test('beats pinned digests and unsigned', () => {
    const policy = policyOf(
      `[[revoked]]\ndigest = "${imageDigest}"\n${rule(`digests = ["${imageDigest}"]`)}${rule('unsigned = true', 'u')}`,
    );
    expect(refusalOf(ask(policy, [], { caller: root, allowUnsigned: true }))).toMatchObject({
      kind: 'DeniedByPolicy',
      rule: undefined,
    });
  });
});

describe('callers', () => {
  const policyFor = (body: string): Policy => policyOf(rule(`${body}\ndigests = ["${imageDigest}"]`));
  const lets = (body: string, caller: Question['caller']): boolean =>
    ask(policyFor(body), [], { caller }).outcome === 'allow';
  const containerRoot = user(0, 0);

  test.each([
    ['users = ["alice"]', user(1000), true],
    ['users = ["alice"]', user(1001), false],
    ['users = ["1000-1001"]', user(1001), true],
    ['users = ["1000-1001"]', user(1002), false],
    ['users = ["bob", "7"]', user(7), true],
    ['users = ["*"]', user(7), true],
    ['users = ["root"]', root, true],
    ['users = ["0"]', root, true],
    ['users = ["0-99"]', root, true],
    ['users = ["*"]', root, true],
    ['users = ["root"]', containerRoot, false],
    ['users = ["0"]', containerRoot, false],
    ['users = ["toor"]', containerRoot, false],
    ['users = ["0-99"]', containerRoot, false],
    ['users = ["*"]', containerRoot, true],
    ['groups = ["root"]', containerRoot, false],
    ['users = ["*"]\ngroups = ["500"]', user(0, 0, 500), false],
    ['groups = ["root"]', root, true],
    ['groups = ["appliance"]', user(1000, 100, 500), true],
    ['groups = ["appliance"]', user(500, 100), false],
    ['users = ["alice"]\ngroups = ["500"]', user(1000, 100), false],
    ['users = ["alice"]\ngroups = ["500"]', user(1001, 500), false],
    ['users = ["alice"]\ngroups = ["500"]', user(1000, 500), true],
    ['', user(4_294_967_294), true],
  ])('%s for %j: %s', (body, caller, expected) => {
    expect(lets(body, caller)).toBe(expected);
  });
});

describe('locations', () => {
  const policy = policyOf(rule('locations = ["/images"]'));

  test.each([
    ['/images/a.cfs', true],
    ['/images/deep/a.cfs', true],
    ['/images2/a.cfs', false],
    ['/other/images/a.cfs', false],
    [undefined, false],
  ])('%s: %s', (location, expected) => {
    expect(ask(policy, [], { location }).outcome === 'allow').toBe(expected);
  });

  test('and signers both have to hold where both are given', () => {
    const both = policyOf(keys + rule(`locations = ["/images"]\n${signed}`));
    expect(refusalOf(ask(both, [], { location: '/images/a' })).kind).toBe('NotSigned');
    expect(ask(both, [signatureFile({}, one.key)], { location: '/images/a' }).outcome).toBe('allow');
  });
});

describe('unsigned', () => {
  const policy = policyOf(rule('users = ["root"]\nunsigned = true\nfile-systems = ["composefs", "erofs"]'));

  test('images are let in for those who ask for it', () => {
    expect(refusalOf(ask(policy, [], { caller: root })).kind).toBe('NotSigned');
    expect(refusalOf(ask(policy, [], { caller: root })).message).toContain('allowUnsigned');
    expect(allowed(ask(policy, [], { caller: root, allowUnsigned: true })).evidence).toEqual({
      digest: imageDigest,
      name: undefined,
      version: undefined,
      signers: [],
      rule: 'r',
    });
    expect(refusalOf(ask(policy, [], { allowUnsigned: true })).message).toContain('is not for user 1000');
  });

  test('images are composefs unless said otherwise', () => {
    const asked = { caller: root, allowUnsigned: true } as const;
    expect(allowed(ask(policy, [], asked)).constraints.fileSystem).toBe('composefs');
    expect(allowed(ask(policy, [], { ...asked, fileSystem: 'erofs' })).constraints.fileSystem).toBe('erofs');
    expect(refusalOf(ask(policy, [], { ...asked, fileSystem: 'ext4' })).kind).toBe('DeniedByPolicy');
  });

  test('rules that are passed over do not speak for others', () => {
    const mixed = policyOf(
      rule('unsigned = true', 'u') + rule('users = ["bob"]\nunsigned = true', 'b') + keys + rule(signed),
    );
    expect(refusalOf(ask(mixed, []))).toMatchObject({ kind: 'NotSigned', rule: 'r' });
  });
});

describe('the first rule that holds', () => {
  test('decides, also where it refuses what a later one would let in', () => {
    const policy = policyOf(
      keys +
        rule(`${signed}rollback-protection = true`, 'strict') +
        rule(signed, 'lax') +
        rule('unsigned = true', 'u'),
    );
    const refusal = refusalOf(ask(policy, [signatureFile({}, one.key)], { allowUnsigned: true }));
    expect(refusal.rule).toBe('strict');
  });

  test('is passed by where a condition fails', () => {
    const policy = policyOf(keys + rule(`users = ["bob"]\n${signed}`, 'bob') + rule(signed, 'all'));
    expect(allowed(ask(policy, [signatureFile({}, one.key)])).rule.name).toBe('all');
  });

  test('is asked about each statement', () => {
    const policy = policyOf(keys + rule(`${signed}images = ["b"]`));
    const files = [signatureFile({ name: 'a' }, one.key), signatureFile({ name: 'b' }, two.key)];
    expect(allowed(ask(policy, files)).evidence).toMatchObject({ name: 'b', signers: ['two'] });
  });
});

describe('the rule that got furthest', () => {
  test('is named, the first of several', () => {
    const policy = policyOf(
      keys +
        rule(`users = ["bob"]\n${signed}`, 'caller') +
        rule(`images = ["x"]\n${signed}`, 'name') +
        rule('signed-by = ["two"]', 'signers') +
        rule('signed-by = ["two"]', 'signers too') +
        rule('locations = ["/images"]', 'location'),
    );
    expect(refusalOf(ask(policy, [signatureFile({}, one.key)]))).toMatchObject({
      kind: 'KeyNotTrusted',
      rule: 'signers',
    });
    const reason = 'rule "r": caller: is not for user 1000';
    expect(refusalOf(ask(policyOf(keys + rule(`users = ["bob"]\n${signed}`)), []))).toEqual({
      kind: 'DeniedByPolicy',
      rule: 'r',
      message: reason,
    });
    expect(refusalOf(ask(policyOf({}), [])).message).toBe('the policy has no rule, and so lets nothing in');
  });
});

describe('stores', () => {
  const policy = policyOf(`${keys}${stores}${rule(`${signed}stores = ["checked"]`)}`);
  const file = [signatureFile({}, one.key)];
  const names = (decision: Decision): string[] =>
    allowed(decision).constraints.stores.map(({ name }) => name);

  test('are those of the rule unless asked for', () => {
    expect(names(ask(policy, file))).toEqual(['checked']);
    const both = policyOf(
      `${keys}${stores}${rule(`${signed}stores = ["checked", "trusted"]\nverity = "if-present"`)}`,
    );
    expect(names(ask(both, file))).toEqual(['checked', 'trusted']);
    expect(names(ask(both, file, { stores: ['trusted'] }))).toEqual(['trusted']);
    expect(names(ask(both, file, { stores: [] }))).toEqual(['checked', 'trusted']);
  });

  test('that the policy or the rule does not have are refused', () => {
    expect(refusalOf(ask(policy, file, { stores: ['none'] }))).toMatchObject({
      kind: 'StoreNotFound',
      parameters: { name: 'none' },
    });
    expect(refusalOf(ask(policy, file, { stores: ['trusted'] }))).toMatchObject({
      kind: 'DeniedByPolicy',
      rule: 'r',
    });
  });

  test("of the client's need the rule's leave, and full checks for all", () => {
    expect(refusalOf(ask(policy, file, { clientStores: true })).message).toContain('client-stores');
    const open = policyOf(
      `${keys}${stores}${rule(`${signed}stores = ["checked", "trusted"]\nclient-stores = true\nverity = "never"`)}`,
    );
    expect(allowed(ask(open, file, { clientStores: true })).constraints).toMatchObject({
      verity: 'require',
      stores: [],
      clientStores: true,
    });
    expect(names(ask(open, file, { clientStores: true, stores: ['checked'] }))).toEqual(['checked']);
    expect(refusalOf(ask(open, file, { clientStores: true, stores: ['trusted'] })).kind).toBe(
      'DeniedByPolicy',
    );
    expect(allowed(ask(open, file)).constraints).toMatchObject({ verity: 'never', clientStores: false });
  });

  test('are for composefs', () => {
    const erofs = policyOf(
      `${keys}${stores}${rule(`${signed}stores = ["trusted"]\nfile-systems = ["erofs"]`)}`,
    );
    const signedErofs = [signatureFile({ fileSystem: 'erofs' }, one.key)];
    expect(names(ask(erofs, signedErofs))).toEqual([]);
    expect(refusalOf(ask(erofs, signedErofs, { stores: ['trusted'] })).kind).toBe('IncompatibleImage');
  });
});

describe('verity', () => {
  const policyWith = (level: string, store: string): Policy =>
    policyOf(`${keys}${stores}${rule(`${signed}stores = ["${store}"]\nverity = "${level}"`)}`);
  const file = [signatureFile({}, one.key)];

  test.each([
    ['never', undefined, 'never'],
    ['never', 'ifPresent', 'ifPresent'],
    ['never', 'require', 'require'],
    ['if-present', 'never', 'ifPresent'],
    ['if-present', undefined, 'ifPresent'],
    ['require', 'never', 'require'],
    ['require', undefined, 'require'],
  ] as const)('of a rule %s and a request %s is %s', (level, verity, expected) => {
    expect(allowed(ask(policyWith(level, 'checked'), file, { verity })).constraints.verity).toBe(expected);
  });

  test('require is never met by a trusted store, and the message names the remedy', () => {
    expect(refusalOf(ask(policyWith('require', 'trusted'), file)).message).toContain(
      'verity = "if-present" in the rule',
    );
    expect(
      refusalOf(ask(policyWith('if-present', 'trusted'), file, { verity: 'require' })).message,
    ).toContain('verity_check=1');
    expect(ask(policyWith('if-present', 'trusted'), file).outcome).toBe('allow');
  });
});

describe('what an image holds', () => {
  const file = [signatureFile({}, one.key)];
  const plain = { fileSystem: 'composefs', devices: false, missingDigest: false } as const;

  describe('in a rule that asks for no signature', () => {
    const pinned = rule(`digests = ["${imageDigest}"]\nfile-systems = ["composefs", "erofs"]`);
    const said = (text: string, more: Partial<Statement> = {}, asked: Partial<Question> = {}): string => {
      const policy = policyOf(text + pinned);
      const file = signatureFile({ fileSystem: 'erofs', ...more }, one.key);
      return allowed(ask(policy, [file], asked)).constraints.fileSystem;
    };

    test('is what a key of the policy states', () => {
      expect(said(keys)).toBe('erofs');
      expect(said(keys, {}, { fileSystem: 'composefs' })).toBe('composefs');
    });

    test.each([
      ['a key that is unknown', two.toml, {}],
      ['a revoked key', `${keys}[[revoked]]\nkey = "${one.keyId}"\n`, {}],
      ['a key that may not speak for the name', makeKeyWith('names = ["other/*"]'), {}],
      ['a key that has expired', makeKeyWith('not-after = 2026-05-01T00:00:00Z'), {}],
      ['a key that is not valid yet', makeKeyWith('not-before = 2026-07-01T00:00:00Z'), {}],
      ['a statement that has expired', keys, { expires: new Date('2026-06-01T00:00:00Z') }],
      ['a statement that is not valid yet', keys, { notBefore: new Date('2026-07-01T00:00:00Z') }],
    ])('is not what %s states', (_what, text, more) => {
      expect(said(text, more)).toBe('composefs');
    });

    test('is composefs where what is stated is not for the rule', () => {
      const narrow = policyOf(`${keys}${rule(`digests = ["${imageDigest}"]`)}`);
      const file = signatureFile({ fileSystem: 'erofs' }, one.key);
      expect(allowed(ask(narrow, [file])).constraints.fileSystem).toBe('composefs');
    });

    test('says what is taken where nobody says, and the rule does not take that', () => {
      const erofs = policyOf(rule(`digests = ["${imageDigest}"]\nfile-systems = ["erofs"]`));
      expect(refusalOf(ask(erofs, [])).message).toBe(
        'rule "r": file system: takes erofs, and composefs is taken where nobody says: ask for it (mount -o type=erofs, verify --file-system erofs)',
      );
    });
  });

  test('is of the filesystem that was stated or asked for, with a hint where nobody said so', () => {
    const strict = policyOf(keys + rule(`${signed}file-systems = ["composefs", "erofs"]`));
    const contents = { ...plain, fileSystem: 'erofs' } as const;
    expect(refusalOf(ask(strict, file, { contents })).message).toBe(
      'rule "r": contents: the image is erofs, and composefs was asked for or stated',
    );
    const unsigned = policyOf(rule('unsigned = true\nfile-systems = ["composefs", "erofs"]'));
    const asking = { contents, allowUnsigned: true, caller: root };
    expect(refusalOf(ask(unsigned, [], asking)).message).toContain('mount -o type=erofs');
    expect(ask(unsigned, [], { ...asking, fileSystem: 'erofs' }).outcome).toBe('allow');
  });

  test('can be checked where that is demanded', () => {
    const contents = { ...plain, missingDigest: true };
    expect(refusalOf(ask(policyOf(keys + rule(signed)), file, { contents })).message).toContain(
      'files without a digest',
    );
    const lax = policyOf(keys + rule(`${signed}verity = "if-present"`));
    expect(ask(lax, file, { contents }).outcome).toBe('allow');
    expect(ask(lax, file, { contents, verity: 'require' }).outcome).toBe('deny');
  });

  test('device nodes are refused once they are known of, unless the rule lets them in', () => {
    const strict = policyOf(keys + rule(signed));
    expect(ask(strict, file).outcome).toBe('allow');
    expect(ask(strict, file, { contents: plain }).outcome).toBe('allow');
    expect(refusalOf(ask(strict, file, { contents: { ...plain, devices: true } }))).toMatchObject({
      kind: 'IncompatibleImage',
      rule: 'r',
    });
    const lax = policyOf(keys + rule(`${signed}devices = true`));
    expect(allowed(ask(lax, file, { contents: { ...plain, devices: true } })).constraints.devices).toBe(true);
  });
});

function makeKeyWith(more: string): string {
  return `${one.toml}${more}\n`;
}
