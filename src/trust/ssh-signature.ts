import { createHash } from 'node:crypto';
import { concatBytes, fromBase64, toBase64 } from '../base/bytes.ts';
import type { Digest } from '../base/digest.ts';
import { digestHex } from '../base/digest.ts';
import type { PrivateKey } from './private-key.ts';
import type { PublicKey } from './public-key.ts';
import { SshReader, sshString, sshUint32, SshWireInvalid } from './ssh-wire.ts';

// Signatures of `ssh-keygen -Y sign -n cfs-mountd` (OpenSSH's PROTOCOL.sshsig), over one line that names the digest.

/** The namespace that keeps what is signed for images apart from what is signed for anything else. */
export const sshNamespace = 'cfs-mountd';

/** An RSA key of 8,192 bits and its signature take 3 KiB of base64. */
export const sshSignatureBytesMax = 8192;

/** An armored signature, taken apart. */
export interface SshSignature {
  /** The key that it claims, as PublicKey.sshBlob. Not checked to be one. */
  readonly keyBlob: Uint8Array;
  /** The hash over the message. */
  readonly hash: 'sha256' | 'sha512';
  /** The signature's algorithm by OpenSSH's name, and its bytes. */
  readonly algorithm: string;
  readonly signature: Uint8Array;
}

/** The file is no signature of OpenSSH's that is taken; the message says why. */
export class SshSignatureInvalid extends Error {
  override readonly name = 'SshSignatureInvalid';
}

const magic = Buffer.from('SSHSIG');
const begin = '-----BEGIN SSH SIGNATURE-----';
const end = '-----END SSH SIGNATURE-----';

/** Whether the file is to be read as a signature of OpenSSH's. */
export function isSshSignature(file: Uint8Array): boolean {
  return Buffer.from(file.subarray(0, begin.length)).toString('latin1') === begin;
}

/**
 * What a signature of this format is made over: the line `fsverity-sha256-12:HEX` with a newline at its end, as
 * `cfs-mountctl digest --statement` prints it. 12 is log2 of the block size.
 */
export function digestLine(digest: Digest): Uint8Array {
  return new TextEncoder().encode(`fsverity-sha256-12:${digestHex(digest)}\n`);
}

/**
 * The signature of an armored file, in the one form in which it is taken: nothing before or after it, base64 as RFC 4648
 * has it, version 1, the namespace cfs-mountd, nothing reserved (OpenSSH would ignore what is there). Throws
 * SshSignatureInvalid.
 */
export function parseSshSignature(file: Uint8Array): SshSignature {
  if (file.length > sshSignatureBytesMax) {
    throw new SshSignatureInvalid(`longer than ${sshSignatureBytesMax} bytes`);
  }
  try {
    return parseBlob(new SshReader(unarmor(Buffer.from(file).toString('latin1'))));
  } catch (error) {
    if (error instanceof SshWireInvalid) throw new SshSignatureInvalid(error.message);
    throw error;
  }
}

/** Whether the signature is the key's, over the digest. The key has to be the one that the signature claims. */
export function verifySshSignature(signature: SshSignature, digest: Digest, key: PublicKey): boolean {
  const message = signedBytes(signature.hash, digest);
  return key.verifySsh(signature.algorithm, message, signature.signature);
}

/** The armored file of a signature by the key over the digest, the same as ssh-keygen makes it. */
export function signDigest(digest: Digest, key: PrivateKey): Uint8Array {
  return formatSshSignature(key.publicKey, key.signSsh(sshMessage(digest)));
}

/** What a signature that is made here is made over. */
export function sshMessage(digest: Digest): Uint8Array {
  return signedBytes('sha512', digest);
}

/** The armored file of a signature over sshMessage, the same as ssh-keygen makes it. */
export function formatSshSignature(
  { sshBlob }: PublicKey,
  { algorithm, signature }: { readonly algorithm: string; readonly signature: Uint8Array },
): Uint8Array {
  const blob = concatBytes(
    magic,
    sshUint32(1),
    sshString(sshBlob),
    sshString(sshNamespace),
    sshString(''),
    sshString('sha512'),
    sshString(concatBytes(sshString(algorithm), sshString(signature))),
  );
  const lines = toBase64(blob).match(/.{1,70}/g) ?? [];
  return new TextEncoder().encode(`${[begin, ...lines, end].join('\n')}\n`);
}

/** A key as `ssh-keygen -l` shows it: SHA256:BASE64, without padding. */
export function sshFingerprint(keyBlob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(keyBlob).digest('base64').replaceAll('=', '')}`;
}

function unarmor(text: string): Uint8Array {
  const match =
    /^-----BEGIN SSH SIGNATURE-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END SSH SIGNATURE-----(?:\r?\n)?$/.exec(
      text,
    );
  const blob = match?.[1] === undefined ? undefined : fromBase64(match[1].replaceAll(/[\r\n]/g, ''));
  if (blob === undefined) throw new SshSignatureInvalid('not one armored block of base64');
  return blob;
}

function parseBlob(reader: SshReader): SshSignature {
  if (!magic.equals(reader.raw(magic.length))) throw new SshSignatureInvalid('it does not begin with SSHSIG');
  const version = reader.uint32();
  if (version !== 1) throw new SshSignatureInvalid(`version ${version}, where 1 is taken`);
  const keyBlob = reader.bytes();
  const namespace = reader.name();
  if (namespace !== sshNamespace) {
    throw new SshSignatureInvalid(
      `made for the namespace "${namespace.slice(0, 64)}", and not for "${sshNamespace}" (ssh-keygen -Y sign -n ${sshNamespace})`,
    );
  }
  if (reader.bytes().length > 0) throw new SshSignatureInvalid('it holds something where all is reserved');
  const hash = reader.name();
  if (hash !== 'sha256' && hash !== 'sha512') {
    throw new SshSignatureInvalid(`the hash ${hash.slice(0, 64)}, where sha256 and sha512 are taken`);
  }
  const inner = new SshReader(reader.bytes());
  reader.end();
  const algorithm = inner.name();
  const signature = inner.bytes();
  inner.end();
  return { keyBlob, hash, algorithm, signature };
}

/** PROTOCOL.sshsig, section 3: the message goes in as its hash. */
function signedBytes(hash: SshSignature['hash'], digest: Digest): Uint8Array {
  const hashed = createHash(hash).update(digestLine(digest)).digest();
  return concatBytes(magic, sshString(sshNamespace), sshString(''), sshString(hash), sshString(hashed));
}
