import type { HashName, KeyAlgorithm, PublicKey } from './public-key.ts';

/** AlgorithmIdentifier of X.509: an object identifier, and parameters: none, NULL, or others. */
export interface AlgorithmIdentifier {
  readonly algorithm: string;
  readonly parameters?: unknown;
}

/** How a certificate or a CMS structure is signed. */
export interface SignatureAlgorithm {
  readonly family: 'rsa' | 'ecdsa' | 'ed25519';
  /** Undefined where the family alone says it (Ed25519), or where it is said elsewhere (rsaEncryption in CMS). */
  readonly hash: HashName | undefined;
}

/** An algorithm that is not taken; the message says which. */
export class AlgorithmInvalid extends Error {
  override readonly name = 'AlgorithmInvalid';
}

/** RFC 8017, RFC 5758, RFC 8410. */
const signatureAlgorithms: ReadonlyMap<string, SignatureAlgorithm> = new Map([
  ['1.2.840.113549.1.1.11', { family: 'rsa', hash: 'sha256' }],
  ['1.2.840.113549.1.1.12', { family: 'rsa', hash: 'sha384' }],
  ['1.2.840.113549.1.1.13', { family: 'rsa', hash: 'sha512' }],
  ['1.2.840.10045.4.3.2', { family: 'ecdsa', hash: 'sha256' }],
  ['1.2.840.10045.4.3.3', { family: 'ecdsa', hash: 'sha384' }],
  ['1.2.840.10045.4.3.4', { family: 'ecdsa', hash: 'sha512' }],
  ['1.3.101.112', { family: 'ed25519', hash: undefined }],
]);

/** rsaEncryption, which CMS takes for a signature algorithm beside a hash (RFC 3370, section 3.2). */
export const rsaEncryption = '1.2.840.113549.1.1.1';

const hashes: ReadonlyMap<string, HashName> = new Map([
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
]);

/** What is refused, by the name that people know it by. */
const refused: ReadonlyMap<string, string> = new Map([
  ['1.2.840.113549.2.5', 'MD5'],
  ['1.3.14.3.2.26', 'SHA-1'],
  ['1.2.840.113549.1.1.4', 'RSA with MD5'],
  ['1.2.840.113549.1.1.5', 'RSA with SHA-1'],
  ['1.2.840.113549.1.1.10', 'RSASSA-PSS'],
  ['1.2.840.10045.4.1', 'ECDSA with SHA-1'],
  ['1.3.101.113', 'Ed448'],
]);

/** The signature algorithm. Throws AlgorithmInvalid. */
export function parseSignatureAlgorithm(identifier: AlgorithmIdentifier): SignatureAlgorithm {
  const { algorithm } = identifier;
  const found =
    algorithm === rsaEncryption
      ? ({ family: 'rsa', hash: undefined } as const)
      : signatureAlgorithms.get(algorithm);
  if (found === undefined) throw notTaken(algorithm, 'RSA, ECDSA with SHA-2, and Ed25519 are');
  checkParameters(identifier, found.family === 'rsa');
  return found;
}

/** The hash. Throws AlgorithmInvalid. */
export function parseHashAlgorithm(identifier: AlgorithmIdentifier): HashName {
  const found = hashes.get(identifier.algorithm);
  if (found === undefined) throw notTaken(identifier.algorithm, 'SHA-256, SHA-384 and SHA-512 are');
  checkParameters(identifier, true);
  return found;
}

/** The object identifier and parameters of what is signed by such a key with that hash. */
export function signatureOid(algorithm: KeyAlgorithm, hash: HashName): string {
  const family = algorithm.startsWith('ecdsa') ? 'ecdsa' : algorithm;
  for (const [oid, known] of signatureAlgorithms)
    if (known.family === family && (known.hash ?? hash) === hash) return oid;
  throw new RangeError(`no signature algorithm for ${algorithm} with ${hash}`);
}

/** The object identifier of the hash. */
export function hashOid(hash: HashName): string {
  for (const [oid, known] of hashes) if (known === hash) return oid;
  throw new RangeError(`no object identifier for ${hash}`);
}

/** Whether the signature is the key's, by that algorithm and hash. Never throws. */
export function verifyBy(
  key: PublicKey,
  { family }: SignatureAlgorithm,
  hash: HashName,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const own = key.algorithm.startsWith('ecdsa') ? 'ecdsa' : key.algorithm;
  return own === family && key.verifyHashed(hash, message, signature);
}

/** Hashes and RSA have NULL or nothing for parameters (RFC 4055, RFC 5754); the others have nothing. */
function checkParameters({ algorithm, parameters }: AlgorithmIdentifier, maybeNull: boolean): void {
  if (parameters === undefined || (parameters === null && maybeNull)) return;
  throw new AlgorithmInvalid(`the algorithm ${algorithm} with parameters that it does not have`);
}

function notTaken(oid: string, taken: string): AlgorithmInvalid {
  return new AlgorithmInvalid(
    `the algorithm ${refused.get(oid) ?? oid.slice(0, 64)}, which is not taken; ${taken}`,
  );
}
