import {
  CertificateChoices,
  CertificateSet,
  CMSVersion,
  ContentInfo,
  DigestAlgorithmIdentifier,
  DigestAlgorithmIdentifiers,
  EncapsulatedContentInfo,
  IssuerAndSerialNumber,
  SignatureAlgorithmIdentifier,
  SignedData,
  SignerIdentifier,
  SignerInfo,
  SignerInfos,
} from '@peculiar/asn1-cms';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import { Certificate as X509 } from '@peculiar/asn1-x509';
import type { Digest } from '../base/digest.ts';
import type { Certificate } from './certificate.ts';
import { formattedDigest } from './pkcs7-signature.ts';
import type { PrivateKey } from './private-key.ts';
import type { HashName } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { hashOid, rsaEncryption, signatureOid } from './signature-algorithm.ts';

/**
 * A signature over the digest as `fsverity sign` makes it: detached, without attributes. The first of `chain` is the certificate of
 * the key; all of it goes along, so that whoever trusts but an authority can follow. Throws KeyInvalid where the key is another one.
 */
export function signDigestPkcs7(digest: Digest, key: Pkcs7Key, chain: Pkcs7Chain): Uint8Array {
  return signContentPkcs7(formattedDigest(digest), key, chain);
}

type Pkcs7Key = Pick<PrivateKey, 'publicKey' | 'signHashed'>;
type Pkcs7Chain = readonly [Certificate, ...Certificate[]];

/** The same over any content. */
export function signContentPkcs7(content: Uint8Array, key: Pkcs7Key, chain: Pkcs7Chain): Uint8Array {
  const [own] = chain;
  if (own.key.id !== key.publicKey.id)
    throw new KeyInvalid(`the certificate is of the key ${own.key.id}, not of ${key.publicKey.id}`);
  const { algorithm } = key.publicKey;
  const hash = hashFor(algorithm);
  const digestAlgorithm = (): DigestAlgorithmIdentifier =>
    new DigestAlgorithmIdentifier({ algorithm: hashOid(hash), parameters: null });
  const signer = new SignerInfo({
    version: CMSVersion.v1,
    sid: new SignerIdentifier({ issuerAndSerialNumber: sidOf(own) }),
    digestAlgorithm: digestAlgorithm(),
    signatureAlgorithm: new SignatureAlgorithmIdentifier(
      algorithm === 'rsa'
        ? { algorithm: rsaEncryption, parameters: null }
        : { algorithm: signatureOid(algorithm, hash) },
    ),
    signature: new OctetString(key.signHashed(hash, content)),
  });
  const signedData = new SignedData({
    version: CMSVersion.v1,
    digestAlgorithms: new DigestAlgorithmIdentifiers([digestAlgorithm()]),
    encapContentInfo: new EncapsulatedContentInfo({ eContentType: '1.2.840.113549.1.7.1' }),
    certificates: new CertificateSet(
      chain.map(({ der }) => new CertificateChoices({ certificate: AsnConvert.parse(der, X509) })),
    ),
    signerInfos: new SignerInfos([signer]),
  });
  const info = new ContentInfo({
    contentType: '1.2.840.113549.1.7.2',
    content: AsnConvert.serialize(signedData),
  });
  return new Uint8Array(AsnConvert.serialize(info));
}

/** The hash of the key's curve; SHA-512 for Ed25519, as RFC 8419 wants it; SHA-256 else, as `fsverity sign` has it. */
function hashFor(algorithm: PrivateKey['publicKey']['algorithm']): HashName {
  if (algorithm === 'ed25519') return 'sha512';
  return algorithm === 'ecdsa-p384' ? 'sha384' : 'sha256';
}

function sidOf({ der }: Certificate): IssuerAndSerialNumber {
  const { issuer, serialNumber } = AsnConvert.parse(der, X509).tbsCertificate;
  return new IssuerAndSerialNumber({ issuer, serialNumber });
}
