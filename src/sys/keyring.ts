import { readFileSync } from 'node:fs';
import type { KeyringAnswer, KeyringQuestion } from '../base/keyring-question.ts';
import { toHex } from '../base/bytes.ts';
import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';

// Keys that the kernel keeps: keyrings(7), keyctl(2), Documentation/crypto/asymmetric-keys.rst. A call takes microseconds, and at most
// as long as a module for its algorithm takes to load: what the kernel turned out not to have is not asked for again.

const keyctlNumbers: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 250, arm64: 219 };
const KEYCTL_DESCRIBE = 6;
const KEYCTL_LINK = 8;
const KEYCTL_SEARCH = 10;
const KEYCTL_READ = 11;
const KEYCTL_PKEY_QUERY = 24;
const KEYCTL_PKEY_VERIFY = 28;
const KEY_SPEC_PROCESS_KEYRING = -2;
const KEYCTL_SUPPORTS_VERIFY = 8;

/** Of a permission mask: for possessors, the owner, its group and others, a byte each, from the highest down. */
const mayLink = 0x00_10_00_00;
const mayWriteOrSetAttributes = 0x24_24_24_24;

/** Key descriptions have at most 4,095 bytes; type, owner and permissions stand before them. */
const descriptionBytesMax = 8192;

/** Keys of one keyring. */
const keysMax = 1024;

/** Sizes of keys that are taken: the same as for keys in files. */
const isSizeTaken = {
  rsa: (bits: number): boolean => bits >= 2048 && bits <= 8192,
  ecdsa: (bits: number): boolean => bits === 256 || bits === 384,
} as const;

/** The keyring, or a key in it, cannot be gone by; the message says why and what to do. */
class KeyringUnusable extends Error {
  override readonly name = 'KeyringUnusable';
}

/** What KEYCTL_DESCRIBE says. */
interface Description {
  readonly type: string;
  readonly owner: number;
  readonly permissions: number;
  readonly text: string;
}

/**
 * Whether a key of the keyring made the signature, by the kernel's own verification (Linux 4.20). The key has to lie in the keyring itself, and
 * the keyring to be root's and closed: nobody, root included, may change what is in it. Never throws for what the
 * question holds, or for what the kernel lacks.
 */
export function askKeyring(question: KeyringQuestion): KeyringAnswer {
  const { keyring } = question;
  try {
    return ask(question);
  } catch (error) {
    if (error instanceof KeyringUnusable)
      return { made: false, why: `the kernel's keyring "${keyring}" ${error.message}` };
    if (!(error instanceof SyscallError)) throw error;
    const code = error.code === 'ENOSYS' ? 'this kernel has no keyrings' : error.message;
    return { made: false, why: `the kernel's keyring "${keyring}" cannot be asked: ${code}` };
  }
}

function ask({ keyring, identifier, family, hash, hashed, signature }: KeyringQuestion): KeyringAnswer {
  const ring = openKeyring(keyring);
  const key = findKey(ring, identifier);
  if (key === undefined) return { made: false, why: undefined };
  const info = `enc=${family === 'rsa' ? 'pkcs1' : 'x962'} hash=${hash}`;
  checkKey(key, family, info);
  const parameters = ffi.allocate(40);
  parameters.writeInt32LE(key, 0);
  parameters.writeUInt32LE(hashed.length, 4);
  parameters.writeUInt32LE(signature.length, 8);
  if (ffi.keyctlVerify(keyctlNumber(), KEYCTL_PKEY_VERIFY, parameters, info, hashed, signature) === 0)
    return { made: true, subjectKeyId: /: ([0-9a-f]{40})$/.exec(describe(key).text)?.[1] };
  const code = lastErrnoName();
  if (code === 'EKEYREJECTED' || code === 'EBADMSG' || code === 'EINVAL')
    throw new KeyringUnusable('has the key that is named, and the signature does not verify by it');
  throw unusable(key, info, code);
}

/** Keyrings that this process has linked to its own, by name. */
const opened = new Map<string, number>();

/** The serial number of the keyring, which is looked for once, and checked anew each time. */
function openKeyring(name: string): number {
  const known = opened.get(name);
  const stillThere = known === undefined ? undefined : describeKeyring(known, name);
  const { ring, permissions } = stillThere ?? findKeyring(name);
  if ((permissions & mayWriteOrSetAttributes) !== 0)
    throw new KeyringUnusable(
      'is not closed: whoever has user ID 0, in a container as well, can put keys into it; ' +
        `"keyctl setperm %:${name} 0x081b0000" closes it until the machine starts anew`,
    );
  if (stillThere === undefined && (permissions & mayLink) !== 0) {
    // Keys let only those search for them, by default, who possess a keyring that they are in (keyrings(7), "Possession").
    const linked = ffi.keyctlLink(keyctlNumber(), KEYCTL_LINK, ring, KEY_SPEC_PROCESS_KEYRING);
    check('keyctl', linked, 'KEYCTL_LINK');
  }
  opened.set(name, ring);
  return ring;
}

interface FoundKeyring {
  readonly ring: number;
  readonly permissions: number;
}

/** Others put into /proc/keys what they like, by descriptions with line breaks: each number there is looked at by itself. */
function findKeyring(name: string): FoundKeyring {
  const lines = readKeyList().split('\n');
  const serials = lines
    .filter((line) => /^[0-9a-f]{8} /.test(line) && line.includes(` keyring   ${name}: `))
    .map((line) => Number.parseInt(line.slice(0, 8), 16));
  const found = [...new Set(serials)]
    .map((serial) => describeKeyring(serial, name))
    .filter((each) => each !== undefined);
  const [only, ...others] = found;
  if (only === undefined)
    throw new KeyringUnusable(
      'is not to be seen: this kernel has none, or this process has not the rights of root',
    );
  if (others.length > 0) throw new KeyringUnusable('is one of several of that name');
  return only;
}

/** The keyring of that serial number, where it is root's and of that name. */
function describeKeyring(ring: number, name: string): FoundKeyring | undefined {
  try {
    const { type, owner, text, permissions } = describe(ring);
    return type === 'keyring' && owner === 0 && text === name ? { ring, permissions } : undefined;
  } catch (error) {
    if (isSyscallError(error, 'ENOKEY', 'EACCES', 'EKEYREVOKED', 'EKEYEXPIRED', 'EINVAL')) return undefined;
    throw error;
  }
}

function readKeyList(): string {
  try {
    return readFileSync('/proc/keys', 'latin1');
  } catch {
    throw new KeyringUnusable('is not to be seen: /proc/keys cannot be read');
  }
}

/** The key of that identifier that the keyring itself holds; not one of a keyring within it, which others may write to. */
function findKey(ring: number, identifier: Uint8Array): number | undefined {
  const key = ffi.keyctlSearch(
    keyctlNumber(),
    KEYCTL_SEARCH,
    ring,
    'asymmetric',
    `ex:${toHex(identifier)}`,
    0,
  );
  if (key >= 0) return members(ring).includes(key) ? key : undefined;
  const code = lastErrnoName();
  if (code === 'ENOKEY') return undefined;
  if (code === 'EACCES') throw notSearchable();
  throw new SyscallError('keyctl', code, 'KEYCTL_SEARCH');
}

function notSearchable(): KeyringUnusable {
  return new KeyringUnusable(
    'has a key that does not let itself be searched for: the owner of the keyring has to be able to link it (0x081b0000), or to search the key',
  );
}

function members(ring: number): readonly number[] {
  const serials = ffi.allocate(keysMax * 4);
  const bytes = check(
    'keyctl',
    ffi.keyctlInto(keyctlNumber(), KEYCTL_READ, ring, serials, serials.length),
    'KEYCTL_READ',
  );
  if (bytes > serials.length) throw new KeyringUnusable(`holds more than ${keysMax} keys`);
  return Array.from({ length: bytes / 4 }, (_, index) => serials.readInt32LE(index * 4));
}

/** Keys and algorithms of which the kernel said that it does not go with them, and by which error. */
const lacking = new Map<string, string>();
const lastingCodes: readonly string[] = ['EINVAL', 'ENOENT', 'ENOPKG', 'EOPNOTSUPP'];

/** That the key is of the kind and size, and can verify. */
function checkKey(key: number, family: KeyringQuestion['family'], info: string): void {
  const earlier = lacking.get(`${key} ${info}`);
  if (earlier !== undefined) throw unusable(key, info, earlier);
  // struct keyctl_pkey_query: supported operations and the key's size in bits come first.
  const answer = ffi.allocate(64);
  if (ffi.keyctlQuery(keyctlNumber(), KEYCTL_PKEY_QUERY, key, 0, info, answer) < 0)
    throw unusable(key, info, lastErrnoName());
  if ((answer.readUInt32LE(0) & KEYCTL_SUPPORTS_VERIFY) === 0) throw unusable(key, info, 'EOPNOTSUPP');
  const bits = answer.readUInt32LE(4);
  if (!isSizeTaken[family](bits))
    throw new KeyringUnusable(`has the key that is named, of ${bits} bits: not of a size that is taken`);
}

function unusable(key: number, info: string, code: string): KeyringUnusable {
  if (code === 'EACCES') return notSearchable();
  if (lastingCodes.includes(code)) lacking.set(`${key} ${info}`, code);
  return new KeyringUnusable(
    `has the key that is named, and this kernel verifies no signature by it with ${info} (${code})`,
  );
}

function describe(key: number): Description {
  const buffer = ffi.allocate(descriptionBytesMax);
  const bytes = check(
    'keyctl',
    ffi.keyctlInto(keyctlNumber(), KEYCTL_DESCRIBE, key, buffer, buffer.length),
    'KEYCTL_DESCRIBE',
  );
  // "type;uid;gid;permissions;description" and a NUL.
  const [type = '', owner = '', , permissions = '', ...text] = buffer
    .toString('latin1', 0, bytes - 1)
    .split(';');
  return {
    type,
    owner: Number.parseInt(owner, 10),
    permissions: Number.parseInt(permissions, 16),
    text: text.join(';'),
  };
}

function keyctlNumber(): number {
  const number = keyctlNumbers[process.arch];
  if (number === undefined) throw new SyscallError('keyctl', 'ENOSYS');
  return number;
}
