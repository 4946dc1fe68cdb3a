import { describe, expect, test } from 'vitest';
import { toBase64 } from '../../../src/base/bytes.ts';
import { digestFromBytes, digestHex, type Digest } from '../../../src/base/digest.ts';
import { parseCertificate } from '../../../src/trust/certificate.ts';
import { rootHashText } from '../../../src/trust/pkcs7-signature.ts';
import { signContentPkcs7, signDigestPkcs7 } from '../../../src/trust/sign-pkcs7.ts';
import { verifySignatures, type Verification } from '../../../src/trust/verify.ts';
import { makeCertificate, newKey } from '../../support/certificates.ts';

const image = digestFromBytes(new Uint8Array(32).fill(1));
const rootHash = digestFromBytes(new Uint8Array(32).fill(7));
const other = digestFromBytes(new Uint8Array(32).fill(8));

const key = newKey();
const certificate = parseCertificate(makeCertificate(key, key, {}));
const stranger = newKey();
const foreign = parseCertificate(makeCertificate(stranger, stranger, { subject: 'stranger' }));

const over = (content: Uint8Array): Uint8Array => signContentPkcs7(content, key, [certificate]);
const sound = over(rootHashText(rootHash));

/** The text of a signature partition as systemd-repart writes it. */
function textOf(pkcs7: Uint8Array, stated: Digest = rootHash): string {
  const certificateFingerprint = '00'.repeat(32);
  return JSON.stringify({
    rootHash: digestHex(stated),
    certificateFingerprint,
    signature: toBase64(pkcs7),
  });
}

function verify(text: string, files: readonly Uint8Array[] = []): Verification {
  const signed = { rootHash, signature: Buffer.from(text) };
  return verifySignatures(files, image, [], [{ certificate, authority: false }], signed);
}

describe('a root hash signed in the image', () => {
  test('counts by the certificate that is trusted, in a format of its own', () => {
    expect(verify(textOf(sound))).toMatchObject({
      statements: [],
      digestSignatures: [{ format: 'dmverity-pkcs7', signers: [key.publicKey.id], unknownKeyIds: [] }],
      faults: [],
    });
  });

  test('by a stranger is by somebody unknown', () => {
    const pkcs7 = signContentPkcs7(rootHashText(rootHash), stranger, [foreign]);
    expect(verify(textOf(pkcs7))).toMatchObject({
      digestSignatures: [
        { format: 'dmverity-pkcs7', signers: [], unknownKeyIds: [foreign.key.id], paths: [] },
      ],
    });
  });

  test.each([
    ['another root hash', over(rootHashText(other))],
    ['the text with a newline', over(Buffer.from(`${digestHex(rootHash)}\n`))],
    ['the hash as bytes', over(Buffer.from(digestHex(rootHash), 'hex'))],
    ['a digest of fs-verity with these bytes', signDigestPkcs7(rootHash, key, [certificate])],
  ])('over %s does not count', (_name, pkcs7) => {
    const { digestSignatures, faults } = verify(textOf(pkcs7));
    expect(digestSignatures).toEqual([]);
    expect(faults).toEqual([
      expect.stringMatching(/^the root hash's signature: .* does not verify over the root hash 0707/),
    ]);
  });

  test.each([
    ['about another root hash', textOf(sound, other), 'about another root hash'],
    ['no JSON', 'x', 'a syntax error'],
    ['a list', '[]', 'no JSON object'],
    [
      'a member twice',
      `{"rootHash":"${digestHex(other)}",${textOf(sound).slice(1)}`,
      'the member "rootHash" is there twice',
    ],
    ['no signature', JSON.stringify({ rootHash: digestHex(rootHash) }), 'no base64'],
    [
      'a signature that is no base64',
      textOf(sound).replace(/"signature":"../, '"signature":"*'),
      'no base64',
    ],
    ['a signature that is no PKCS#7', textOf(new Uint8Array([0x30, 0x80])), 'indefinite'],
  ])('with %s is malformed', (_name, text, reason) => {
    const { digestSignatures, faults } = verify(text);
    expect(digestSignatures).toEqual([]);
    expect(faults).toEqual([expect.stringMatching(/^the root hash's signature is malformed: /)]);
    expect(faults[0]).toContain(reason);
  });

  test('is no signature of the image where it is shown as one', () => {
    const { digestSignatures, faults } = verifySignatures(
      [sound],
      rootHash,
      [],
      [{ certificate, authority: false }],
    );
    expect(digestSignatures).toEqual([]);
    expect(faults).toEqual([expect.stringContaining('does not verify over the digest')]);
  });
});
