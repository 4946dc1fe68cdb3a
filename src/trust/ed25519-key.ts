import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { ed25519 } from '@noble/curves/ed25519.js';
import { concatBytes, equalBytes } from '../base/bytes.ts';
import { keyIdOf } from './key-id.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid } from './public-key.ts';
import { sshString } from './ssh-wire.ts';

/** The name of keys and signatures in OpenSSH (RFC 8709). */
export const sshEd25519 = 'ssh-ed25519';

/** SubjectPublicKeyInfo of Ed25519 up to the key's 32 bytes (RFC 8410, section 4). */
const prefix = new Uint8Array([0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);

/** The key of an SPKI structure, or undefined where it is of another algorithm or form. Throws KeyInvalid. */
export function ed25519FromSpki(der: Uint8Array): PublicKey | undefined {
  if (der.length !== prefix.length + 32 || !equalBytes(der.subarray(0, prefix.length), prefix))
    return undefined;
  return ed25519Key(der.subarray(prefix.length));
}

/** The key whose point has these 32 bytes. Throws KeyInvalid. */
export function ed25519Key(point: Uint8Array): PublicKey {
  checkPoint(point);
  const key = Uint8Array.from(point);
  const spki = concatBytes(prefix, key);
  const object = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  const verify = (message: Uint8Array, signature: Uint8Array): boolean => {
    if (signature.length !== 64) return false;
    try {
      // Anybody can send forged signatures: OpenSSL refuses them in a thirtieth of the time, and the event loop waits.
      if (!verifySignature(null, message, object, signature)) return false;
      // zip215 would accept non-canonical encodings, of which there is more than one for a signature.
      return ed25519.verify(signature, message, key, { zip215: false });
    } catch {
      return false; // noble throws on some malformed points
    }
  };
  return {
    id: keyIdOf(spki),
    algorithm: 'ed25519',
    spki,
    sshBlob: concatBytes(sshString(sshEd25519), sshString(key)),
    verify,
    verifySsh: (algorithm, message, signature) => algorithm === sshEd25519 && verify(message, signature),
    verifyHashed: (_hash, message, signature) => verify(message, signature),
  };
}

/** A point of small order makes one signature fit many messages, and one outside the prime subgroup is no honest key. */
function checkPoint(bytes: Uint8Array): void {
  let point;
  try {
    point = ed25519.Point.fromBytes(bytes, false);
  } catch {
    throw new KeyInvalid('not a point of the curve in canonical form');
  }
  if (point.isSmallOrder() || !point.isTorsionFree())
    throw new KeyInvalid('a point of small order, which is no key');
}
