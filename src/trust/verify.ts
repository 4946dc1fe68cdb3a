import { foreignText } from '../base/foreign-text.ts';
import type { Digest } from '../base/digest.ts';
import { equalBytes, toHex } from '../base/bytes.ts';
import type { Envelope, EnvelopeSignature } from './dsse.ts';
import {
  EnvelopeInvalid,
  inTotoPayloadType,
  keyIdCharactersMax,
  parseEnvelope,
  preAuthEncoding,
} from './dsse.ts';
import { attributePkcs7, type Pkcs7Claim, type Pkcs7Content } from './attribute-pkcs7.ts';
import type { TrustedCertificate } from './certificate-path.ts';
import type { DigestSignatures } from './digest-signatures.ts';
import type { KeyringSignature } from './keyring-signature.ts';
import { formattedDigest, isPkcs7Signature, parsePkcs7Signature, Pkcs7Invalid } from './pkcs7-signature.ts';
import type { KeyId, PublicKey } from './public-key.ts';
import { attributeRootHash, type SignedRootHash } from './root-hash-signature.ts';
import type { SshSignature } from './ssh-signature.ts';
import {
  isSshSignature,
  parseSshSignature,
  sshFingerprint,
  SshSignatureInvalid,
  verifySshSignature,
} from './ssh-signature.ts';
import type { Statement } from './statement.ts';
import { parseStatement, StatementInvalid } from './statement.ts';

/** A statement about the image, and who signed it. */
export interface VerifiedStatement {
  readonly statement: Statement;
  /** Known keys with a sound signature, each once. Empty where nobody known signed: then it proves nothing. */
  readonly signers: readonly KeyId[];
  /** Key IDs, as claimed, of signatures that none of the known keys made. */
  readonly unknownKeyIds: readonly string[];
}

/** What a set of signature files proves about an image. Says nothing about time, rules or revocation. */
export interface Verification {
  readonly statements: readonly VerifiedStatement[];
  /** One for each format that such signatures came in. */
  readonly digestSignatures: readonly DigestSignatures[];
  /** Of those, what keys in the kernel's keyrings made; left out where none was asked about. */
  readonly keyringSignatures?: readonly KeyringSignature[];
  /** Why files or signatures were of no use, one sentence each. Empty with neither of the above: there was no signature. */
  readonly faults: readonly string[];
}

/** Signature files of one image. Signers add to a file; several files are for signers that do not know each other. */
export const signatureFilesMax = 16;

/**
 * Verifications tried in all files of one image: at 2 to 4 ms each, what a client can make us spend. Signatures with the
 * right key ID come first, so that foreign ones beside them do not use this up.
 */
const triesMax = 64;

/**
 * Checks signature files against an image's digest and the keys that are known. Statements about another image, and
 * signatures that claim a known key and are by none, are faults; what nobody known signed is kept, with no
 * signers, so that a refusal can tell whose key was missing. PKCS#7 goes by `certificates`: signatures of fs-verity's own format,
 * and the one on `rootHash`, where the image holds such. Never throws for what the files hold.
 */
export function verifySignatures(
  files: readonly Uint8Array[],
  digest: Digest,
  keys: readonly PublicKey[],
  certificates: readonly TrustedCertificate[] = [],
  rootHash?: SignedRootHash,
): Verification {
  const faults: string[] = [];
  if (files.length > signatureFilesMax) {
    faults.push(`of ${files.length} signature files only the first ${signatureFilesMax} were read`);
  }
  const { statements, claims, sshSignatures, pkcs7Signatures } = gather(
    files.slice(0, signatureFilesMax),
    digest,
    faults,
  );
  attribute(claims, keys, faults);
  return {
    statements: statements
      .filter(({ signers, unknownKeyIds }) => signers.size > 0 || unknownKeyIds.size > 0)
      .map(({ statement, signers, unknownKeyIds }) => ({
        statement,
        signers: [...signers],
        unknownKeyIds: [...unknownKeyIds],
      })),
    digestSignatures: [
      ...attributeSsh(sshSignatures, digest, keys, faults),
      ...attributePkcs7(pkcs7Signatures, fsverityContent(digest), certificates, faults),
      ...(rootHash === undefined ? [] : attributeRootHash(rootHash, certificates, faults)),
    ],
    faults,
  };
}

function fsverityContent(digest: Digest): Pkcs7Content {
  return { format: 'fsverity-pkcs7', bytes: formattedDigest(digest), what: `the digest ${digest}` };
}

interface Gathered {
  readonly statement: Statement;
  readonly signers: Set<KeyId>;
  readonly unknownKeyIds: Set<string>;
}

/** A signature whose maker is to be found out. */
interface Claim {
  /** The file that it comes from, for faults. */
  readonly where: string;
  readonly message: Uint8Array;
  readonly signature: EnvelopeSignature;
  readonly about: Gathered;
}

/** A signature of OpenSSH's and where it comes from, for faults. */
interface SshClaim {
  readonly where: string;
  readonly signature: SshSignature;
}

interface Parsed {
  readonly statements: readonly Gathered[];
  readonly claims: readonly Claim[];
  readonly sshSignatures: readonly SshClaim[];
  readonly pkcs7Signatures: readonly Pkcs7Claim[];
}

/** Parses the files. What several files say in the same bytes, they say together. */
function gather(files: readonly Uint8Array[], digest: Digest, faults: string[]): Parsed {
  const sshSignatures: SshClaim[] = [];
  const pkcs7Signatures: Pkcs7Claim[] = [];
  const payloads = new Map<string, Gathered>();
  const claims: Claim[] = [];
  for (const [index, file] of files.entries()) {
    const where = files.length === 1 ? 'the signature' : `signature file ${index + 1} of ${files.length}`;
    try {
      if (isSshSignature(file)) {
        sshSignatures.push({ where, signature: parseSshSignature(file) });
        continue;
      }
      if (isPkcs7Signature(file)) {
        pkcs7Signatures.push({ where, signature: parsePkcs7Signature(file) });
        continue;
      }
      const envelope = parseEnvelope(file);
      const payload = toHex(envelope.payload);
      const about = payloads.get(payload) ?? {
        ...open(envelope, digest),
        signers: new Set(),
        unknownKeyIds: new Set(),
      };
      payloads.set(payload, about);
      const message = preAuthEncoding(envelope.payloadType, envelope.payload);
      claims.push(...envelope.signatures.map((signature) => ({ where, message, signature, about })));
    } catch (error) {
      if (
        error instanceof EnvelopeInvalid ||
        error instanceof SshSignatureInvalid ||
        error instanceof Pkcs7Invalid
      )
        faults.push(`${where} is malformed: ${error.message}`);
      else if (error instanceof StatementInvalid) faults.push(`${where} is of no use: ${error.message}`);
      else throw error;
    }
  }
  return { statements: [...payloads.values()], claims, sshSignatures, pkcs7Signatures };
}

/** The statement of an envelope, if it is about this image. */
function open(envelope: Envelope, digest: Digest): { statement: Statement } {
  if (envelope.payloadType !== inTotoPayloadType) {
    throw new EnvelopeInvalid(`payloadType is not "${inTotoPayloadType}"`);
  }
  const statement = parseStatement(envelope.payload);
  // Checked before the signatures: one copied from another image costs no verification.
  if (statement.digest === digest) return { statement };
  throw new StatementInvalid(`it is about the image ${statement.digest}, and this one is ${digest}`);
}

/** Finds out who made each signature: the key that its ID names, or, since IDs prove nothing, any other. */
function attribute(claims: readonly Claim[], keys: readonly PublicKey[], faults: string[]): void {
  const known = new Map<string, PublicKey>(keys.map((key) => [key.id, key]));
  let triesLeft = triesMax;
  const isBy = (key: PublicKey, { message, signature, about }: Claim): boolean => {
    // RSA keys sign no DSSE: to try one here would be for nothing.
    if (key.algorithm === 'rsa' || about.signers.has(key.id) || triesLeft === 0) return false;
    triesLeft--;
    if (!key.verify(message, signature.sig)) return false;
    about.signers.add(key.id);
    return true;
  };
  const unclear = claims.filter((claim) => {
    const hinted = known.get(claim.signature.keyid);
    return hinted === undefined || !(claim.about.signers.has(hinted.id) || isBy(hinted, claim));
  });
  for (const claim of unclear) {
    const { where, signature, about } = claim;
    const hinted = known.get(signature.keyid);
    if ([...known.values()].some((key) => key !== hinted && isBy(key, claim))) continue;
    if (triesLeft === 0) faults.push(`${where}: too many signatures carry a key ID that is not theirs`);
    else if (hinted !== undefined) faults.push(`${where}: the signature by key ${hinted.id} does not verify`);
    else about.unknownKeyIds.add(foreignText(signature.keyid, keyIdCharactersMax));
  }
}

/**
 * Finds out which signatures of OpenSSH's hold. Each carries its key whole, so that only that one is to be tried: at most
 * one verification for each file.
 */
function attributeSsh(
  claims: readonly SshClaim[],
  digest: Digest,
  keys: readonly PublicKey[],
  faults: string[],
): readonly DigestSignatures[] {
  const signers = new Set<KeyId>();
  const unknownKeyIds = new Set<string>();
  for (const { where, signature } of claims) {
    const key = keys.find(({ sshBlob }) => equalBytes(sshBlob, signature.keyBlob));
    if (key === undefined) unknownKeyIds.add(sshFingerprint(signature.keyBlob));
    else if (signers.has(key.id)) continue;
    else if (verifySshSignature(signature, digest, key)) signers.add(key.id);
    else faults.push(`${where}: the signature by key ${key.id} does not verify over the digest ${digest}`);
  }
  if (signers.size === 0 && unknownKeyIds.size === 0) return [];
  return [{ format: 'ssh', signers: [...signers], unknownKeyIds: [...unknownKeyIds] }];
}
