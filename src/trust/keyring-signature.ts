import { createHash } from 'node:crypto';
import { concatBytes, fromHex, toHex } from '../base/bytes.ts';
import type { Digest } from '../base/digest.ts';
import type { AskKeyring } from '../base/keyring-question.ts';
import { describeClaims } from './attribute-pkcs7.ts';
import { DerInvalid, parseDer } from './der.ts';
import type { Pkcs7Signature, Pkcs7Signer } from './pkcs7-signature.ts';
import {
  formattedDigest,
  isPkcs7Signature,
  parsePkcs7Signature,
  Pkcs7Invalid,
  pkcs7BytesMax,
  signedMessage,
  verifyPkcs7Signer,
} from './pkcs7-signature.ts';
import type { KeyId, PublicKey } from './public-key.ts';

/** A signature of fs-verity's own format that a key in one of the kernel's keyrings made. */
export interface KeyringSignature {
  readonly keyring: string;
  /** Which key that is, where it is one of those that are known; the kernel gives none back. */
  readonly key: KeyId | undefined;
}

/** What the kernel's keyrings say of the signatures of an image. */
export interface KeyringEvidence {
  readonly signatures: readonly KeyringSignature[];
  /** Why others are of no use, a sentence each. */
  readonly faults: readonly string[];
}

/** What is to be found out. */
export interface KeyringTask {
  /** Names of keyrings, each once. */
  readonly keyrings: readonly string[];
  /** Keys that are compared with those of the keyrings; none where it does not matter which key it was. */
  readonly known: readonly PublicKey[];
}

/** Questions to the kernel about all files of one image: what a client can make us spend. */
const questionsMax = 16;

/**
 * Asks the kernel which signatures are by keys of its keyrings: by its own verification, so that neither names nor identifiers
 * need to be believed. Certificates that the keys came in are not looked at: the kernel keeps neither their dates nor their usage.
 * Never throws for what the files hold.
 */
export function askKeyrings(
  files: readonly Uint8Array[],
  digest: Digest,
  task: KeyringTask,
  ask: AskKeyring,
): KeyringEvidence {
  const inquiry = new Inquiry(digest, task, ask);
  for (const file of files) {
    const signature = parse(file);
    if (signature === undefined) continue;
    for (const signer of signature.signers) inquiry.signer(signer);
  }
  return inquiry;
}

/** What is malformed is reported where all signatures are. */
function parse(file: Uint8Array): Pkcs7Signature | undefined {
  if (!isPkcs7Signature(file)) return undefined;
  try {
    return parsePkcs7Signature(file);
  } catch (error) {
    if (error instanceof Pkcs7Invalid) return undefined;
    throw error;
  }
}

class Inquiry implements KeyringEvidence {
  readonly signatures: KeyringSignature[] = [];
  readonly faults: string[] = [];
  readonly #digest: Digest;
  readonly #task: KeyringTask;
  readonly #ask: AskKeyring;
  #questionsLeft = questionsMax;

  constructor(digest: Digest, task: KeyringTask, ask: AskKeyring) {
    this.#digest = digest;
    this.#task = task;
    this.#ask = ask;
  }

  signer(signer: Pkcs7Signer): void {
    const message = signedMessage(signer, formattedDigest(this.#digest));
    const identifier = identifierOf(signer);
    const { family } = signer.algorithm;
    // No kernel has keys of Ed25519; what is over other bytes is nobody's.
    if (message === undefined || identifier === undefined || family === 'ed25519') return;
    const { hash, signature } = signer;
    const hashed = createHash(hash).update(message).digest();
    for (const keyring of this.#task.keyrings) {
      if (this.#questionsLeft-- <= 0) return;
      const answer = this.#ask({ keyring, identifier, family, hash, hashed, signature });
      if (answer.made) {
        this.signatures.push({ keyring, key: this.#identify(signer, answer.subjectKeyId) });
      } else if (answer.why !== undefined) this.faults.push(`${describeClaims(signer)}: ${answer.why}`);
    }
  }

  /**
   * Which of the known keys made the signature. That it verifies the signature is not enough, since two keys can be made for one signature: it has
   * to be the one as well whose hash the certificate in the keyring has for an identifier, as most do. Certificates that come along with
   * a signature are anybody's, and nothing to compare it with.
   */
  #identify(signer: Pkcs7Signer, subjectKeyId: string | undefined): KeyId | undefined {
    return this.#task.known.find(
      (key) => keyHash(key) === subjectKeyId && verifyPkcs7Signer(signer, formattedDigest(this.#digest), key),
    )?.id;
  }
}

/** As x509_cert_parse() of the kernel makes it: of the serial number and what the SEQUENCE of the issuer's name holds. */
function identifierOf({ claims }: Pkcs7Signer): Uint8Array | undefined {
  if ('subjectKeyId' in claims) return fromHex(claims.subjectKeyId);
  try {
    const { contentStart } = parseDer(claims.issuer, pkcs7BytesMax);
    return concatBytes(fromHex(claims.serial) ?? new Uint8Array(), claims.issuer.subarray(contentStart));
  } catch (error) {
    if (error instanceof DerInvalid) return undefined;
    throw error;
  }
}

const hashes = new WeakMap<PublicKey, string>();

/** Hex of the SHA-1 of the key's BIT STRING, by which certificates call their key (RFC 5280, section 4.2.1.2, method 1). */
function keyHash(key: PublicKey): string {
  const known = hashes.get(key);
  if (known !== undefined) return known;
  const [, bits] = parseDer(key.spki, key.spki.length).children;
  // The first byte of a BIT STRING says how many bits of the last are none of it.
  const hashed = key.spki.subarray((bits?.contentStart ?? 0) + 1, bits?.end);
  const hash = toHex(createHash('sha1').update(hashed).digest());
  hashes.set(key, hash);
  return hash;
}
