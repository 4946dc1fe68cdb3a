import { createPublicKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { equalBytes, fromBase64 } from '../base/bytes.ts';
import { ecdsaFromSpki } from './ecdsa-key.ts';
import { ed25519FromSpki } from './ed25519-key.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid, unsupportedKey } from './public-key.ts';
import { rsaKey } from './rsa-key.ts';
import { parseSshPublicKey } from './ssh-public-key.ts';

/** Key files are a few hundred bytes; certificates a few thousand. */
export const keyFileBytesMax = 16_384;

/**
 * The key that a key file holds: a public key or an X.509 certificate in PEM, a line of OpenSSH, or base64 of SPKI
 * DER. Of a certificate only the key counts: neither its dates nor its issuer. Throws KeyInvalid.
 */
export function parsePublicKey(text: string): PublicKey {
  if (text.length > keyFileBytesMax) throw new KeyInvalid(`longer than ${keyFileBytesMax} bytes`);
  const trimmed = text.trim();
  if (trimmed.startsWith('-----BEGIN ')) return parsePem(trimmed);
  if (/^(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[^ ]* /.test(trimmed)) return parseSshPublicKey(trimmed);
  const der = fromBase64(trimmed.replaceAll(/\s+/g, ''));
  if (trimmed === '' || der === undefined) {
    throw new KeyInvalid('neither PEM, nor a line of OpenSSH, nor base64 of a public key in DER');
  }
  return parseSpki(der);
}

/** The key of an SPKI structure in its one canonical DER form: curves by name, points uncompressed. Throws KeyInvalid. */
export function parseSpki(der: Uint8Array): PublicKey {
  const key = ed25519FromSpki(der) ?? ecdsaFromSpki(der);
  if (key !== undefined) return key;
  const object = keyObject(() => createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }));
  const kind = object.asymmetricKeyType ?? 'unknown';
  const rsa = kind === 'rsa' ? rsaKey(object) : undefined;
  if (rsa !== undefined && equalBytes(rsa.spki, der)) return rsa;
  if (rsa !== undefined || kind === 'ed25519') throw new KeyInvalid('not canonical DER');
  if (kind !== 'ec') throw unsupportedKey(kind);
  const curve = object.asymmetricKeyDetails?.namedCurve;
  if (curve !== undefined && curve !== 'prime256v1' && curve !== 'secp384r1')
    throw unsupportedKey(`ec on ${curve}`);
  throw new KeyInvalid(
    'not canonical DER: an EC key has to name its curve and to hold its point uncompressed',
  );
}

function parsePem(text: string): PublicKey {
  const match = /^-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\s]+)-----END \1-----$/.exec(text);
  const [, label, body = ''] = match ?? [];
  switch (label) {
    case 'PUBLIC KEY': {
      const der = fromBase64(body.replaceAll(/\s+/g, ''));
      if (der === undefined) throw new KeyInvalid('not PEM: what it holds is not base64');
      return parseSpki(der);
    }
    case 'CERTIFICATE': {
      const key = keyObject(() => new X509Certificate(text).publicKey);
      return parseSpki(new Uint8Array(key.export({ format: 'der', type: 'spki' })));
    }
    case undefined:
      throw new KeyInvalid('not a single block of PEM');
    default:
      if (label.endsWith('PRIVATE KEY'))
        throw new KeyInvalid('a private key, where the public one is wanted');
      throw new KeyInvalid(`PEM of kind "${label}", not PUBLIC KEY or CERTIFICATE`);
  }
}

function keyObject(make: () => KeyObject): KeyObject {
  try {
    return make();
  } catch {
    throw new KeyInvalid('damaged, or of a kind that is not known');
  }
}
