import { createHash } from 'node:crypto';
import { CMSVersion, ContentInfo, SignedData } from '@peculiar/asn1-cms';
import type { Attribute, CertificateSet, SignerInfo } from '@peculiar/asn1-cms';
import { OctetString } from '@peculiar/asn1-schema';
import { concatBytes, equalBytes, fromHex, toHex } from '../base/bytes.ts';
import type { Digest } from '../base/digest.ts';
import { digestHex } from '../base/digest.ts';
import { childAt, readAsn1 } from './asn1.ts';
import type { DerNode } from './der.ts';
import { derBytes, DerInvalid } from './der.ts';
import type { HashName, PublicKey } from './public-key.ts';
import type { SignatureAlgorithm } from './signature-algorithm.ts';
import {
  AlgorithmInvalid,
  parseHashAlgorithm,
  parseSignatureAlgorithm,
  verifyBy,
} from './signature-algorithm.ts';

// fs-verity's own signatures: CMS SignedData (RFC 5652, PKCS#7) in DER, detached, over struct fsverity_formatted_digest
// (Documentation/filesystems/fsverity.rst, "Built-in signature verification").

/** FS_VERITY_MAX_SIGNATURE_SIZE, include/uapi/linux/fsverity.h: the kernel takes no more. */
export const pkcs7BytesMax = 16_128;

/** Signers of one file. Each can cost a verification. */
export const pkcs7SignersMax = 16;

/** Certificates in one file: a chain has three or four. */
export const pkcs7CertificatesMax = 8;

/** One signer's signature. Who that is, the certificates have to show. */
export interface Pkcs7Signer {
  /** Which certificate is the signer's, as claimed: DER of the issuer's name and hex of the serial number, or hex of the key identifier. */
  readonly claims:
    { readonly issuer: Uint8Array; readonly serial: string } | { readonly subjectKeyId: string };
  readonly hash: HashName;
  readonly algorithm: SignatureAlgorithm;
  /** DER of the signed attributes, as they are signed, and the hash of the content that they hold. */
  readonly attributes: { readonly signed: Uint8Array; readonly messageDigest: Uint8Array } | undefined;
  readonly signature: Uint8Array;
}

/** A file with signatures, taken apart. */
export interface Pkcs7Signature {
  /** DER of the certificates that came along, unread. */
  readonly certificates: readonly Uint8Array[];
  readonly signers: readonly Pkcs7Signer[];
}

/** The file is no signature of fs-verity's that is taken; the message says why. */
export class Pkcs7Invalid extends Error {
  override readonly name = 'Pkcs7Invalid';
}

const signedDataType = '1.2.840.113549.1.7.2';
const dataType = '1.2.840.113549.1.7.1';
const contentTypeAttribute = '1.2.840.113549.1.9.3';
const messageDigestAttribute = '1.2.840.113549.1.9.4';
/** What openssl adds by itself, and what says nothing of the content: signingTime and smimeCapabilities. Nothing goes by them. */
const idleAttributes: readonly string[] = ['1.2.840.113549.1.9.5', '1.2.840.113549.1.9.15'];

/** Whether the file is to be read as PKCS#7 in DER: it begins with a SEQUENCE, as neither JSON nor armored text does. */
export function isPkcs7Signature(file: Uint8Array): boolean {
  return file[0] === 0x30;
}

/** struct fsverity_formatted_digest: "FSVerity", the algorithm (1: SHA-256) and the size as little-endian 16 bits, the digest. */
export function formattedDigest(digest: Digest): Uint8Array {
  const bytes = fromHex(digestHex(digest)) ?? new Uint8Array();
  return concatBytes(Buffer.from('FSVerity'), new Uint8Array([1, 0, bytes.length, 0]), bytes);
}

/** The signatures of a file in the one form in which it is taken. Throws Pkcs7Invalid. */
export function parsePkcs7Signature(file: Uint8Array): Pkcs7Signature {
  try {
    return parse(file);
  } catch (error) {
    if (error instanceof DerInvalid || error instanceof AlgorithmInvalid)
      throw new Pkcs7Invalid(error.message);
    throw error;
  }
}

/** Whether the signature is the key's, over the digest. Never throws. */
export function verifyPkcs7Signer(signer: Pkcs7Signer, digest: Digest, key: PublicKey): boolean {
  const { algorithm, hash, attributes, signature } = signer;
  const content = formattedDigest(digest);
  if (attributes === undefined) return verifyBy(key, algorithm, hash, content, signature);
  if (!equalBytes(createHash(hash).update(content).digest(), attributes.messageDigest)) return false;
  return verifyBy(key, algorithm, hash, attributes.signed, signature);
}

function parse(file: Uint8Array): Pkcs7Signature {
  const outer = readAsn1(file, ContentInfo, 'a CMS structure (PKCS#7)', pkcs7BytesMax);
  if (outer.value.contentType !== signedDataType)
    throw new Pkcs7Invalid(`of content type ${outer.value.contentType.slice(0, 64)}, not SignedData`);
  const bytes = derBytes(file, childAt(childAt(outer.root, 1), 0));
  const { value, root } = readAsn1(bytes, SignedData, 'SignedData', pkcs7BytesMax);
  const { eContent, eContentType } = value.encapContentInfo;
  if (eContent !== undefined) throw new Pkcs7Invalid('it holds its content, and is to be detached');
  if (eContentType !== dataType)
    throw new Pkcs7Invalid(`over content of type ${eContentType.slice(0, 64)}, not data`);
  if (value.crls !== undefined) throw new Pkcs7Invalid('it holds revocation lists, which are not taken');
  const infos = [...value.signerInfos];
  if (infos.length === 0) throw new Pkcs7Invalid('nobody has signed');
  if (infos.length > pkcs7SignersMax) throw new Pkcs7Invalid(`more than ${pkcs7SignersMax} signers`);
  const byKeyId = infos.some(({ sid }) => sid.subjectKeyIdentifier !== undefined);
  // RFC 5652, section 5.1, for detached data and certificates of X.509 alone.
  if (value.version !== (byKeyId ? CMSVersion.v3 : CMSVersion.v1))
    throw new Pkcs7Invalid(`version ${value.version}, which does not fit what it holds`);
  const hashes = new Set([...value.digestAlgorithms].map(parseHashAlgorithm));
  const nodes = childAt(root, -1).children;
  return {
    certificates: parseCertificates(value.certificates, bytes, root),
    signers: infos.map((info, index) =>
      parseSigner(info, hashes, bytes, childAt({ ...root, children: nodes }, index)),
    ),
  };
}

/** The certificates' bytes; other kinds than those of X.509 are not taken. */
function parseCertificates(
  set: CertificateSet | undefined,
  bytes: Uint8Array,
  root: DerNode,
): readonly Uint8Array[] {
  if (set === undefined) return [];
  const { children } = childAt(root, 3);
  if (children.length > pkcs7CertificatesMax)
    throw new Pkcs7Invalid(`${children.length} certificates, where ${pkcs7CertificatesMax} are taken`);
  if ([...set].some(({ certificate }) => certificate === undefined))
    throw new Pkcs7Invalid('a certificate of another kind than X.509');
  return children.map((child) => derBytes(bytes, child));
}

function parseSigner(
  info: SignerInfo,
  hashes: ReadonlySet<HashName>,
  bytes: Uint8Array,
  node: DerNode,
): Pkcs7Signer {
  if (info.unsignedAttrs !== undefined)
    throw new Pkcs7Invalid('it has unsigned attributes, which nobody vouches for');
  const hash = parseHashAlgorithm(info.digestAlgorithm);
  if (!hashes.has(hash))
    throw new Pkcs7Invalid(`digestAlgorithms does not list ${hash}, which a signer uses`);
  const algorithm = parseSignatureAlgorithm(info.signatureAlgorithm);
  if (algorithm.hash !== undefined && algorithm.hash !== hash)
    throw new Pkcs7Invalid(`a signature with ${algorithm.hash} over what was hashed by ${hash}`);
  const { issuerAndSerialNumber, subjectKeyIdentifier } = info.sid;
  if (info.version !== (subjectKeyIdentifier === undefined ? CMSVersion.v1 : CMSVersion.v3))
    throw new Pkcs7Invalid(`a signer of version ${info.version}, which does not fit how it is named`);
  const named = childAt(node, 1);
  const claims =
    subjectKeyIdentifier === undefined
      ? {
          issuer: derBytes(bytes, childAt(named, 0)),
          serial: toHex(new Uint8Array(issuerAndSerialNumber?.serialNumber ?? new ArrayBuffer(0))),
        }
      : { subjectKeyId: toHex(new Uint8Array(subjectKeyIdentifier.buffer)) };
  return {
    claims,
    hash,
    algorithm,
    attributes: info.signedAttrs && parseAttributes(info.signedAttrs, derBytes(bytes, childAt(node, 3))),
    signature: new Uint8Array(info.signature.buffer),
  };
}

/**
 * The signed attributes: the content's type and hash, each once, and beside them only such as mean nothing for the content. What
 * is signed has the tag of a SET in place of the one of its place (RFC 5652, section 5.4). It begins with another byte than
 * fsverity_formatted_digest, so that the one never passes for the other.
 */
function parseAttributes(
  attributes: readonly Attribute[],
  bytes: Uint8Array,
): NonNullable<Pkcs7Signer['attributes']> {
  const values = new Map<string, ArrayBuffer>();
  for (const { attrType, attrValues } of attributes) {
    const [value, ...others] = attrValues;
    if (value === undefined || others.length > 0 || values.has(attrType))
      throw new Pkcs7Invalid(`the signed attribute ${attrType} is there more or less than once`);
    values.set(attrType, value);
    if (![contentTypeAttribute, messageDigestAttribute, ...idleAttributes].includes(attrType))
      throw new Pkcs7Invalid(`the signed attribute ${attrType}, which is not understood`);
  }
  const contentType = values.get(contentTypeAttribute);
  const messageDigest = values.get(messageDigestAttribute);
  if (contentType === undefined || messageDigest === undefined)
    throw new Pkcs7Invalid('signed attributes without contentType or messageDigest');
  if (!equalBytes(new Uint8Array(contentType), dataOid))
    throw new Pkcs7Invalid('signed attributes for content of another type than data');
  const { value } = readAsn1(new Uint8Array(messageDigest), OctetString, 'a messageDigest', pkcs7BytesMax);
  const signed = Uint8Array.from(bytes);
  signed[0] = 0x31;
  return { signed, messageDigest: new Uint8Array(value.buffer) };
}

/** DER of the object identifier of data, 1.2.840.113549.1.7.1. */
const dataOid = new Uint8Array([0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01]);
