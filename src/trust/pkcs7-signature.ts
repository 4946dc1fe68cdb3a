import { createHash } from 'node:crypto';
import { concatBytes, equalBytes, fromHex, toHex } from '../base/bytes.ts';
import type { Digest } from '../base/digest.ts';
import { digestHex } from '../base/digest.ts';
import type { DerNode } from './der.ts';
import { derBytes, DerInvalid, objectIdentifier, parseDer } from './der.ts';
import type { HashName, PublicKey } from './public-key.ts';
import type { AlgorithmIdentifier, SignatureAlgorithm } from './signature-algorithm.ts';
import {
  AlgorithmInvalid,
  parseHashAlgorithm,
  parseSignatureAlgorithm,
  verifyBy,
} from './signature-algorithm.ts';

// Signatures of fs-verity and of dm-verity: CMS SignedData (RFC 5652, PKCS#7) in DER, detached; the one over struct
// fsverity_formatted_digest (Documentation/filesystems/fsverity.rst, "Built-in signature verification"), the other over the root
// hash (Documentation/admin-guide/device-mapper/verity.rst, root_hash_sig_key_desc; UAPI.2, "Verity Signature Partitions").

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

/** What is signed of a root hash of dm-verity: its 64 lower-case hexadecimal digits, as text. */
export function rootHashText(rootHash: Digest): Uint8Array {
  return Buffer.from(digestHex(rootHash), 'latin1');
}

/** Whether the signature is the key's, over the content. Never throws. */
export function verifyPkcs7Signer(signer: Pkcs7Signer, content: Uint8Array, key: PublicKey): boolean {
  const message = signedMessage(signer, content);
  return message !== undefined && verifyBy(key, signer.algorithm, signer.hash, message, signer.signature);
}

/** The bytes that the signature is over where it is about the content; undefined where its attributes are about something else. */
export function signedMessage(
  { hash, attributes }: Pkcs7Signer,
  content: Uint8Array,
): Uint8Array | undefined {
  if (attributes === undefined) return content;
  const hashed = createHash(hash).update(content).digest();
  return equalBytes(hashed, attributes.messageDigest) ? attributes.signed : undefined;
}

/** The parts of a SEQUENCE or SET in their order, each taken once. */
class Parts {
  readonly #node: DerNode;
  #at = 0;

  constructor(node: DerNode, tag: number, what: string) {
    if (node.tag !== tag) throw new DerInvalid(`not ${what}`);
    this.#node = node;
  }

  /** The next part if it has the tag. */
  optional(tag: number): DerNode | undefined {
    const part = this.#node.children[this.#at];
    if (part?.tag !== tag) return undefined;
    this.#at++;
    return part;
  }

  take(tag: number, what: string): DerNode {
    const part = this.optional(tag);
    if (part === undefined) throw new DerInvalid(`no ${what} where it has to be`);
    return part;
  }

  /** Called last: nothing may follow. */
  end(what: string): void {
    if (this.#at !== this.#node.children.length) throw new DerInvalid(`more than ${what} holds`);
  }
}

const tags = {
  integer: 0x02,
  octets: 0x04,
  oid: 0x06,
  null: 0x05,
  sequence: 0x30,
  set: 0x31,
  /** [0] primitive, and [0] and [1] constructed. */
  keyId: 0x80,
  first: 0xa0,
  second: 0xa1,
} as const;

// The library for ASN.1 reads certificates, and not this: it would take a second for a file that somebody filled with small values.

function parse(file: Uint8Array): Pkcs7Signature {
  const info = new Parts(parseDer(file, pkcs7BytesMax), tags.sequence, 'a CMS structure (PKCS#7)');
  const type = objectIdentifier(file, info.take(tags.oid, 'contentType'));
  if (type !== signedDataType) throw new Pkcs7Invalid(`of content type ${type}, not SignedData`);
  const [data, ...others] = info.take(tags.first, 'content').children;
  info.end('a CMS structure (PKCS#7)');
  if (data === undefined || others.length > 0) throw new DerInvalid('not one SignedData');
  return parseSignedData(file, new Parts(data, tags.sequence, 'SignedData'));
}

function parseSignedData(file: Uint8Array, data: Parts): Pkcs7Signature {
  const version = integer(file, data.take(tags.integer, 'version'));
  const hashes = new Set(
    data.take(tags.set, 'digestAlgorithms').children.map((node) => parseHashAlgorithm(algorithm(file, node))),
  );
  const encapsulated = new Parts(
    data.take(tags.sequence, 'encapContentInfo'),
    tags.sequence,
    'EncapsulatedContentInfo',
  );
  const contentType = objectIdentifier(file, encapsulated.take(tags.oid, 'eContentType'));
  if (encapsulated.optional(tags.first) !== undefined)
    throw new Pkcs7Invalid('it holds its content, and is to be detached');
  encapsulated.end('EncapsulatedContentInfo');
  if (contentType !== dataType) throw new Pkcs7Invalid(`over content of type ${contentType}, not data`);
  const certificates = data.optional(tags.first)?.children ?? [];
  if (data.optional(tags.second) !== undefined)
    throw new Pkcs7Invalid('it holds revocation lists, which are not taken');
  const infos = data.take(tags.set, 'signerInfos').children;
  data.end('SignedData');
  if (infos.length === 0) throw new Pkcs7Invalid('nobody has signed');
  if (infos.length > pkcs7SignersMax) throw new Pkcs7Invalid(`more than ${pkcs7SignersMax} signers`);
  const signers = infos.map((node) => parseSigner(file, hashes, node));
  // RFC 5652, section 5.1, for detached data and certificates of X.509 alone.
  if (version !== (signers.some(({ claims }) => 'subjectKeyId' in claims) ? 3 : 1))
    throw new Pkcs7Invalid(`version ${version}, which does not fit what it holds`);
  return { certificates: parseCertificates(file, certificates), signers };
}

/** The certificates' bytes; other kinds than those of X.509 are not taken. */
function parseCertificates(file: Uint8Array, nodes: readonly DerNode[]): readonly Uint8Array[] {
  if (nodes.length > pkcs7CertificatesMax)
    throw new Pkcs7Invalid(`${nodes.length} certificates, where ${pkcs7CertificatesMax} are taken`);
  if (nodes.some(({ tag }) => tag !== tags.sequence))
    throw new Pkcs7Invalid('a certificate of another kind than X.509');
  return nodes.map((node) => derBytes(file, node));
}

function parseSigner(file: Uint8Array, hashes: ReadonlySet<HashName>, node: DerNode): Pkcs7Signer {
  const info = new Parts(node, tags.sequence, 'SignerInfo');
  const version = integer(file, info.take(tags.integer, 'version'));
  const keyId = info.optional(tags.keyId);
  const named = keyId ?? info.take(tags.sequence, 'sid');
  const hash = parseHashAlgorithm(algorithm(file, info.take(tags.sequence, 'digestAlgorithm')));
  const attributes = info.optional(tags.first);
  const scheme = parseSignatureAlgorithm(algorithm(file, info.take(tags.sequence, 'signatureAlgorithm')));
  const signature = contentOf(file, info.take(tags.octets, 'signature'));
  if (info.optional(tags.second) !== undefined)
    throw new Pkcs7Invalid('it has unsigned attributes, which nobody vouches for');
  info.end('SignerInfo');
  if (!hashes.has(hash))
    throw new Pkcs7Invalid(`digestAlgorithms does not list ${hash}, which a signer uses`);
  if (scheme.hash !== undefined && scheme.hash !== hash)
    throw new Pkcs7Invalid(`a signature with ${scheme.hash} over what was hashed by ${hash}`);
  if (version !== (keyId === undefined ? 1 : 3))
    throw new Pkcs7Invalid(`a signer of version ${version}, which does not fit how it is named`);
  return {
    claims:
      keyId === undefined ? issuerAndSerial(file, named) : { subjectKeyId: toHex(contentOf(file, keyId)) },
    hash,
    algorithm: scheme,
    attributes: attributes && parseAttributes(file, attributes),
    signature,
  };
}

function issuerAndSerial(file: Uint8Array, node: DerNode): Pkcs7Signer['claims'] {
  const named = new Parts(node, tags.sequence, 'IssuerAndSerialNumber');
  const issuer = derBytes(file, named.take(tags.sequence, 'issuer'));
  const serial = toHex(contentOf(file, named.take(tags.integer, 'serialNumber')));
  named.end('IssuerAndSerialNumber');
  return { issuer, serial };
}

function contentOf(file: Uint8Array, { contentStart, end }: DerNode): Uint8Array {
  return file.subarray(contentStart, end);
}

/** A small number; a large one is none that is known. */
function integer(file: Uint8Array, node: DerNode): number {
  const [value = 0, ...others] = contentOf(file, node).subarray(0, 2);
  return others.length > 0 ? 256 : value;
}

function algorithm(file: Uint8Array, node: DerNode): AlgorithmIdentifier {
  const parts = new Parts(node, tags.sequence, 'AlgorithmIdentifier');
  const oid = objectIdentifier(file, parts.take(tags.oid, 'algorithm'));
  const parameters = parts.optional(tags.null);
  if (parameters !== undefined) parts.end('AlgorithmIdentifier');
  if (parameters !== undefined) return { algorithm: oid, parameters: null };
  return node.children.length === 1 ? { algorithm: oid } : { algorithm: oid, parameters: node };
}

/**
 * The signed attributes: the content's type and hash, each once, and beside them only such as mean nothing for the content. What
 * is signed has the tag of a SET in place of the one of its place (RFC 5652, section 5.4). It begins with another byte than
 * fsverity_formatted_digest; nor is it ever the text of a root hash, whose second digit would be another length than the text's.
 * So none of them passes for another.
 */
function parseAttributes(file: Uint8Array, node: DerNode): NonNullable<Pkcs7Signer['attributes']> {
  const values = new Map<string, DerNode>();
  for (const each of node.children) {
    const attribute = new Parts(each, tags.sequence, 'Attribute');
    const type = objectIdentifier(file, attribute.take(tags.oid, 'attrType'));
    const [value, ...others] = attribute.take(tags.set, 'attrValues').children;
    attribute.end('Attribute');
    if (value === undefined || others.length > 0 || values.has(type))
      throw new Pkcs7Invalid(`the signed attribute ${type} is there more or less than once`);
    values.set(type, value);
    if (![contentTypeAttribute, messageDigestAttribute, ...idleAttributes].includes(type))
      throw new Pkcs7Invalid(`the signed attribute ${type}, which is not understood`);
  }
  const contentType = values.get(contentTypeAttribute);
  const messageDigest = values.get(messageDigestAttribute);
  if (contentType === undefined || messageDigest === undefined)
    throw new Pkcs7Invalid('signed attributes without contentType or messageDigest');
  if (objectIdentifier(file, contentType) !== dataType)
    throw new Pkcs7Invalid('signed attributes for content of another type than data');
  if (messageDigest.tag !== tags.octets) throw new DerInvalid('not a messageDigest');
  const signed = Uint8Array.from(derBytes(file, node));
  signed[0] = tags.set;
  return { signed, messageDigest: contentOf(file, messageDigest) };
}
