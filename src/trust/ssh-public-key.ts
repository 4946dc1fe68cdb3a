import { fromBase64 } from '../base/bytes.ts';
import { curves, ecdsaKey } from './ecdsa-key.ts';
import { ed25519Key, sshEd25519 } from './ed25519-key.ts';
import type { PublicKey } from './public-key.ts';
import { KeyInvalid, unsupportedKey } from './public-key.ts';
import { rsaKeyOfNumbers, sshRsa } from './rsa-key.ts';
import { SshReader, SshWireInvalid } from './ssh-wire.ts';

/**
 * The key of one line of OpenSSH, `TYPE BASE64 COMMENT`. Keys on hardware (sk-) and certificates are refused by name: what
 * they sign is more than the message. Throws KeyInvalid.
 */
export function parseSshPublicKey(line: string): PublicKey {
  if (line.includes('\n')) throw new KeyInvalid('more than one line of OpenSSH');
  const [type = '', base64 = ''] = line.split(/[ \t]+/);
  checkType(type);
  const blob = fromBase64(base64);
  const key = blob && parseSshBlob(blob);
  if (key?.type !== type) throw new KeyInvalid(`not the base64 of an ${type} key`);
  return key.key;
}

/** The key of a blob (RFC 4253, section 6.6), or undefined where it is malformed. Throws KeyInvalid. */
export function parseSshBlob(
  blob: Uint8Array,
): { readonly type: string; readonly key: PublicKey } | undefined {
  try {
    const reader = new SshReader(blob);
    const type = reader.name();
    checkType(type);
    const key = keyOfType(type, reader);
    reader.end();
    return key && { type, key };
  } catch (error) {
    if (error instanceof SshWireInvalid) return undefined;
    throw error;
  }
}

function keyOfType(type: string, reader: SshReader): PublicKey | undefined {
  if (type === sshEd25519) {
    const point = reader.bytes();
    return point.length === 32 ? ed25519Key(point) : undefined;
  }
  if (type === sshRsa) {
    const exponent = reader.positiveInteger();
    return rsaKeyOfNumbers(reader.positiveInteger(), exponent);
  }
  const curve = curves.find(({ sshName }) => sshName === type);
  return curve?.sshCurve === reader.name() ? ecdsaKey(curve, reader.bytes()) : undefined;
}

function checkType(type: string): void {
  if (type !== sshEd25519 && type !== sshRsa && !curves.some(({ sshName }) => sshName === type)) {
    throw unsupportedKey(type);
  }
}
