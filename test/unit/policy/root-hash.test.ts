import { describe, expect, test } from 'vitest';
import { toBase64 } from '../../../src/base/bytes.ts';
import { digestFromBytes, digestHex } from '../../../src/base/digest.ts';
import { asksForRootHash, decide } from '../../../src/policy/decide.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { Question } from '../../../src/policy/question.ts';
import { verifyFiles } from '../../../src/policy/verify-files.ts';
import { parseCertificate } from '../../../src/trust/certificate.ts';
import { rootHashText } from '../../../src/trust/pkcs7-signature.ts';
import { signContentPkcs7, signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { makeCertificate, newKey, pemOf } from '../../support/certificates.ts';
import { faultsOf, imageDigest, policyOf, questionOf } from './policy-of.ts';

const rootHash = digestFromBytes(new Uint8Array(32).fill(9));
const key = newKey();
const certificate = parseCertificate(makeCertificate(key, key, {}));
const keyFiles = { 'vendor.crt': pemOf(certificate.der) };
const vendor = '[[keys]]\nid = "vendor"\nfile = "vendor.crt"\n';
const rule = (more: string): string => `[[rules]]\nname = "r"\nsigned-by = ["vendor"]\n${more}\n`;
const disks = 'formats = ["dmverity-pkcs7"]\nfile-systems = ["ddi"]\nunscanned = true';

const signed = {
  rootHash,
  signature: Buffer.from(
    JSON.stringify({
      rootHash: digestHex(rootHash),
      signature: toBase64(signContentPkcs7(rootHashText(rootHash), key, [certificate])),
    }),
  ),
};

/** The question before the image was read, and the same with its root hash. */
function asked(policy: Policy, files: readonly Uint8Array[] = []): { unread: Question; read: Question } {
  const unread = questionOf(policy, files, { fileSystem: 'ddi' });
  const verification = verifyFiles(files, imageDigest, policy, signed);
  return { unread, read: { ...unread, rootHash, verification } };
}

describe('a rule that takes dmverity-pkcs7', () => {
  test('takes the signed root hash, and then dm-verity has to check it', () => {
    const policy = policyOf(vendor + rule(disks), keyFiles);
    const { unread, read } = asked(policy);
    const refused = decide(policy, unread);
    expect(refused).toMatchObject({ outcome: 'deny', refusal: { kind: 'NotSigned' } });
    expect(asksForRootHash(policy, unread, refused)).toBe(true);
    expect(decide(policy, read)).toMatchObject({
      outcome: 'allow',
      evidence: { signers: ['vendor'], name: undefined, version: undefined },
      constraints: { fileSystem: 'ddi', rootHashOnly: true },
    });
  });

  test('asks for nothing where the whole file is vouched for, and dm-verity may be missing', () => {
    const both = disks.replace('["dmv', '["fsverity-pkcs7", "dmv');
    const policy = policyOf(vendor + rule(both), keyFiles);
    const { unread } = asked(policy, [signDigestPkcs7(imageDigest, key, [certificate])]);
    const decision = decide(policy, unread);
    expect(decision).toMatchObject({ outcome: 'allow', constraints: { rootHashOnly: false } });
    expect(asksForRootHash(policy, unread, decision)).toBe(false);
  });

  test('asks nobody who asks for something else, or where no rule takes it', () => {
    const policy = policyOf(vendor + rule(disks), keyFiles);
    const plain = questionOf(policy, []);
    expect(asksForRootHash(policy, plain, decide(policy, plain))).toBe(false);
    const other = policyOf(vendor + rule('file-systems = ["ddi"]\nunscanned = true'), keyFiles);
    const { unread, read } = asked(other);
    expect(asksForRootHash(other, unread, decide(other, unread))).toBe(false);
    // Nor does a rule take it that does not say so.
    expect(decide(other, read)).toMatchObject({ outcome: 'deny' });
  });

  test('takes no root hash that is revoked, whatever else the image holds', () => {
    const policy = policyOf(`${vendor}${rule(disks)}[[revoked]]\ndigest = "${rootHash}"\n`, keyFiles);
    expect(decide(policy, asked(policy).read)).toMatchObject({
      outcome: 'deny',
      refusal: { kind: 'DeniedByPolicy', message: `the image's root hash ${rootHash} is revoked` },
    });
  });

  test.each([
    ['other filesystems', 'file-systems = ["ddi", "erofs"]', 'is for disk images'],
    ['another filesystem', 'file-systems = ["squashfs"]', 'is for disk images'],
    ['images', 'file-systems = ["ddi"]\nimages = ["**"]', 'states no name and no version'],
  ])('has no %s', (_name, more, reason) => {
    const faults = faultsOf(vendor + rule(`formats = ["dmverity-pkcs7"]\n${more}`), keyFiles);
    expect(faults).toEqual([expect.stringContaining(`rules[0].formats: "dmverity-pkcs7" ${reason}`)]);
  });
});
