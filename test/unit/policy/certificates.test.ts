import { describe, expect, test } from 'vitest';
import { decide } from '../../../src/policy/decide.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Question } from '../../../src/policy/question.ts';
import { policyWarnings } from '../../../src/policy/warnings.ts';
import { parseCertificate, type Certificate } from '../../../src/trust/certificate.ts';
import type { PrivateKey } from '../../../src/trust/private-key.ts';
import { signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { signDigest } from '../../../src/trust/ssh-signature.ts';
import { makeCertificate, newKey, pemOf, type CertificateParts } from '../../support/certificates.ts';
import { faultsOf, imageDigest, policyOf, questionOf, signatureFile } from './policy-of.ts';

interface Holder {
  readonly key: PrivateKey;
  readonly certificate: Certificate;
}

function holder(parts: CertificateParts = {}, by?: Holder, key: PrivateKey = newKey()): Holder {
  return { key, certificate: parseCertificate(makeCertificate(key, by?.key ?? key, parts)) };
}

const root = holder({
  authority: {},
  usage: 0x04,
  subject: 'root',
  notAfter: new Date('2030-01-01T00:00:00Z'),
});
const issued = { authority: false, usage: 0x80, issuer: 'root' } as const;
const alice = holder(issued, root);
const bob = holder(issued, root);
const carol = holder();
const ed = holder({}, undefined, newKey('ed25519'));
const keyFiles = {
  'root.crt': pemOf(root.certificate.der),
  'alice.crt': pemOf(alice.certificate.der),
  'carol.crt': pemOf(carol.certificate.der),
  'ed.crt': pemOf(ed.certificate.der),
};
const entry = (id: string, more = ''): string => `[[keys]]\nid = "${id}"\nfile = "${id}.crt"\n${more}\n`;
const keys = entry('root', 'authority = true') + entry('alice') + entry('carol') + entry('ed');
const rule = (signedBy: readonly string[], body = ''): string =>
  `[[rules]]\nname = "r"\nsigned-by = ${JSON.stringify(signedBy)}\nformats = ["fsverity-pkcs7"]\n${body}\n`;
const p7 = ({ key, certificate }: Holder, ...chain: readonly Holder[]): Uint8Array =>
  signDigestPkcs7(imageDigest, key, [certificate, ...chain.map((each) => each.certificate)]);
const policy = (text: string): Policy => policyOf(text, keyFiles);

function outcome(of: Policy, files: readonly Uint8Array[], more: Partial<Question> = {}): string {
  const decision = decide(of, questionOf(of, files, more));
  if (decision.outcome === 'deny') return decision.refusal.kind;
  return decision.evidence.signers.join(' ');
}

describe('a rule that takes fsverity-pkcs7', () => {
  test('takes the certificate itself, and what an authority issued', () => {
    expect(outcome(policy(keys + rule(['carol'])), [p7(carol)])).toBe('carol');
    expect(outcome(policy(keys + rule(['root'])), [p7(bob)])).toBe('root');
    expect(outcome(policy(keys + rule(['alice'])), [p7(bob)])).toBe('KeyNotTrusted');
    expect(outcome(policy(entry('root') + rule(['root'])), [p7(bob)])).toBe('KeyNotTrusted');
  });

  test('takes no key that was not given as a certificate', () => {
    const plain = `[[keys]]\nid = "c"\npublic-key = "${Buffer.from(carol.key.publicKey.spki).toString('base64')}"\n`;
    expect(outcome(policy(plain + rule(['c'])), [p7(carol)])).toBe('KeyNotTrusted');
    expect(outcome(policy(plain + entry('carol') + rule(['c'])), [p7(carol)])).toBe('KeyNotTrusted');
  });

  test('takes none of the other formats, and the others take not this one', () => {
    const both = policy(`${keys}${rule(['ed'])}`);
    expect(outcome(both, [signDigest(imageDigest, ed.key)])).toBe('DeniedByPolicy');
    expect(outcome(both, [signatureFile({}, ed.key)])).toBe('DeniedByPolicy');
    const ssh = policy(`${keys}${rule(['ed']).replace('fsverity-pkcs7', 'ssh')}`);
    expect(outcome(ssh, [p7(ed)])).toBe('DeniedByPolicy');
  });

  test.each([
    ['images', 'images = ["**"]'],
    ['rollback-protection', 'rollback-protection = true'],
    ['several filesystems', 'file-systems = ["erofs", "composefs"]'],
  ])('has no %s', (_name, body) => {
    expect(faultsOf(keys + rule(['carol'], body), keyFiles)).toEqual([
      expect.stringContaining('rules[0].formats: "fsverity-pkcs7" states no'),
    ]);
  });
});

describe('time', () => {
  const at = (text: string): Partial<Question> => ({ now: new Date(text) });
  test('of the certificate and of the entry hold, both', () => {
    const timed = policy(entry('carol', 'not-before = 2026-05-01T00:00:00Z') + rule(['carol']));
    expect(outcome(timed, [p7(carol)], at('2026-04-30T23:59:59Z'))).toBe('Expired');
    expect(outcome(timed, [p7(carol)], at('2026-05-01T00:00:00Z'))).toBe('carol');
    expect(outcome(timed, [p7(carol)], at('2027-01-01T00:00:00Z'))).toBe('carol');
    expect(outcome(timed, [p7(carol)], at('2027-01-01T00:00:01Z'))).toBe('Expired');
  });

  test("of the authority's certificate and of the signer's hold, both", () => {
    const short = holder({ ...issued, notAfter: new Date('2026-03-01T00:00:00Z') }, root);
    const of = policy(keys + rule(['root']));
    expect(outcome(of, [p7(short)], at('2026-02-01T00:00:00Z'))).toBe('root');
    expect(outcome(of, [p7(short)])).toBe('Expired');
    // Another signer of the same authority, whose certificate is valid, is enough.
    expect(outcome(of, [p7(short), p7(bob)])).toBe('root');
    const decision = decide(of, questionOf(of, [p7(short)]));
    expect(decision).toMatchObject({
      refusal: {
        parameters: { what: 'a certificate by which the key "root" counts', at: '2026-03-01T00:00:00Z' },
      },
    });
  });

  test('a renewed certificate of the same key takes over', () => {
    const renewed = parseCertificate(
      makeCertificate(carol.key, carol.key, { notAfter: new Date('2029-01-01T00:00:00Z') }),
    );
    const files = { ...keyFiles, 'renewed.crt': pemOf(renewed.der) };
    const both = policyOf(
      `${entry('carol')}[[keys]]\nid = "carol"\nfile = "renewed.crt"\n${rule(['carol'])}`,
      files,
    );
    const signed = p7({ key: carol.key, certificate: renewed });
    expect(outcome(both, [signed], at('2028-06-01T00:00:00Z'))).toBe('carol');
    expect(outcome(both, [p7(carol)], at('2028-06-01T00:00:00Z'))).toBe('Expired');
  });
});

describe('thresholds', () => {
  const two = (signedBy: readonly string[]): Policy => policy(keys + rule(signedBy, 'threshold = 2'));
  test('need as many signatures as words', () => {
    // One signature, trusted by itself and by its authority.
    expect(outcome(two(['root', 'alice']), [p7(alice)])).toBe('KeyNotTrusted');
    expect(outcome(two(['root', 'alice']), [p7(alice), p7(alice, root)])).toBe('KeyNotTrusted');
    expect(outcome(two(['root', 'alice']), [p7(alice), p7(bob)])).toBe('root alice');
    expect(outcome(two(['root', 'carol']), [p7(bob), p7(carol)])).toBe('root carol');
    // Two who were certified by one authority are one word.
    expect(outcome(two(['root', 'carol']), [p7(alice), p7(bob)])).toBe('KeyNotTrusted');
  });

  test('count a key in several formats once, and add formats up', () => {
    const all = policy(
      `${keys}[[rules]]\nname = "r"\nsigned-by = ["ed", "carol", "root"]\nthreshold = 2\nformats = ["dsse", "ssh", "fsverity-pkcs7"]\n`,
    );
    expect(outcome(all, [p7(ed), signDigest(imageDigest, ed.key), signatureFile({}, ed.key)])).toBe(
      'KeyNotTrusted',
    );
    expect(outcome(all, [signDigest(imageDigest, ed.key), p7(carol)])).toBe('carol ed');
    expect(outcome(all, [signatureFile({}, ed.key), p7(carol)])).toBe('carol ed');
  });

  test('are not met by what is no longer valid', () => {
    const short = holder({ ...issued, notAfter: new Date('2026-03-01T00:00:00Z') }, root);
    expect(outcome(two(['root', 'carol']), [p7(short), p7(carol)])).toBe('Expired');
  });
});

describe('revocation', () => {
  const revoking = (who: Holder): string => `[[revoked]]\nkey = "${who.key.publicKey.id}"\n`;
  test("of the signer's key, of one in between, and of the authority's ends it", () => {
    const middle = holder({ authority: {}, usage: 0x04, subject: 'middle', issuer: 'root' }, root);
    const dave = holder({ ...issued, issuer: 'middle' }, middle);
    const base = keys + rule(['root']);
    expect(outcome(policy(base), [p7(dave, middle)])).toBe('root');
    for (const who of [dave, middle, root])
      expect(outcome(policy(base + revoking(who)), [p7(dave, middle)])).toBe('KeyNotTrusted');
    expect(outcome(policy(base + revoking(dave)), [p7(dave, middle), p7(bob)])).toBe('root');
  });
});

describe('keys', () => {
  test.each([
    ['is no certificate', '', 'the key is no certificate'],
    ['may issue nothing', 'carol', 'is no authority'],
  ])('that %s make no authority', (_name, file, reason) => {
    const source =
      file === ''
        ? `public-key = "${Buffer.from(ed.key.publicKey.spki).toString('base64')}"`
        : `file = "${file}.crt"`;
    expect(faultsOf(`[[keys]]\nid = "k"\n${source}\nauthority = true\n${rule(['k'])}`, keyFiles)).toEqual([
      expect.stringMatching(new RegExp(`keys\\[0\\].authority: .*${reason}`)),
    ]);
  });

  test('whose certificate is not taken do not load', () => {
    const der = makeCertificate(carol.key, carol.key, { usage: 0x84 });
    expect(faultsOf(entry('carol') + rule(['carol']), { 'carol.crt': pemOf(der) })).toEqual([
      expect.stringContaining('keys.d/carol.crt is no usable key: its keyUsage lets it issue certificates'),
    ]);
  });

  test('are warned of where they can never count', () => {
    const now = new Date('2028-01-01T00:00:00Z');
    const warnings = policyWarnings(policy(keys + rule(['carol'])), now).join('\n');
    expect(warnings).toContain('key "carol" has a certificate that expired at 2027-01-01T00:00:00Z');
    expect(warnings).toContain('can never have them: "carol" has a certificate that expired');
    expect(warnings).toContain('key "root" is an authority, and no rule that names it takes the format');
  });
});
