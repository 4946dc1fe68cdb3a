import type { Accounts } from '../../../src/policy/accounts.ts';
import { FieldInvalid, formatFault, PolicyInvalid } from '../../../src/policy/fault.ts';
import { parsePolicy } from '../../../src/policy/parse.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import type { CallerIdentity, Question } from '../../../src/policy/question.ts';
import type { Digest } from '../../../src/base/digest.ts';
import { digestFromBytes } from '../../../src/base/digest.ts';
import { formatEnvelope } from '../../../src/trust/dsse.ts';
import { generateKeyPair, parsePrivateKey } from '../../../src/trust/private-key.ts';
import { addSignature, signStatement } from '../../../src/trust/sign.ts';
import type { PrivateKey } from '../../../src/trust/private-key.ts';
import type { Statement } from '../../../src/trust/statement.ts';
import { verifyFiles } from '../../../src/policy/verify-files.ts';
import { toBase64 } from '../../../src/base/bytes.ts';

export const accounts: Accounts = {
  user: (name) =>
    new Map([
      ['root', 0],
      ['toor', 0],
      ['alice', 1000],
      ['bob', 1001],
    ]).get(name),
  group: (name) =>
    new Map([
      ['root', 0],
      ['appliance', 500],
    ]).get(name),
};

/** The policy of TOML texts, by file name. Key files are given by name. */
export function policyOf(
  files: string | Readonly<Record<string, string>>,
  keyFiles: Readonly<Record<string, string>> = {},
): Policy {
  const named = typeof files === 'string' ? { '50-test.toml': files } : files;
  return parsePolicy(
    Object.entries(named).map(([path, text]) => ({ path, text })),
    {
      accounts,
      complete: true,
      checkDirectory: () => undefined,
      realPath: (path) => path,
      readKey: (_policyFile, name) => {
        const text = keyFiles[name];
        if (text === undefined) throw new FieldInvalid(`keys.d/${name}: no such file`);
        return { path: `keys.d/${name}`, text };
      },
    },
  );
}

/** The faults of a policy as `policy check` prints them. */
export function faultsOf(
  files: string | Readonly<Record<string, string>>,
  keyFiles: Readonly<Record<string, string>> = {},
): string[] {
  try {
    policyOf(files, keyFiles);
    return [];
  } catch (error) {
    if (error instanceof PolicyInvalid) return error.faults.map(formatFault);
    throw error;
  }
}

/** A key pair, and the [[keys]] entry that makes it known as `id`. */
export function makeKey(id: string, more = ''): { key: PrivateKey; keyId: string; toml: string } {
  const { privatePem, publicKey } = generateKeyPair();
  const toml = `[[keys]]\nid = "${id}"\npublic-key = "${toBase64(publicKey.spki)}"\n${more}\n`;
  return { key: parsePrivateKey(privatePem), keyId: publicKey.id, toml };
}

export const imageDigest: Digest = digestFromBytes(new Uint8Array(32).fill(7));

export const root: CallerIdentity = { uid: 0, root: true, gids: [0] };

export function user(uid: number, ...gids: readonly number[]): CallerIdentity {
  return { uid, root: false, gids };
}

/** The bytes of a signature file about the image, signed by all the keys. */
export function signatureFile(statement: Partial<Statement>, ...keys: readonly PrivateKey[]): Uint8Array {
  const whole: Statement = {
    name: 'example/app',
    digest: imageDigest,
    fileSystem: 'composefs',
    ...statement,
  };
  const [first, ...others] = keys;
  if (first === undefined) throw new RangeError('nobody signs');
  return formatEnvelope(
    others.reduce((envelope, key) => addSignature(envelope, whole, key), signStatement(whole, first)),
  );
}

/** A question by user 1000 about an image handed over with these signature files. */
export function questionOf(
  policy: Policy,
  signatures: readonly Uint8Array[],
  more: Partial<Question> = {},
): Question {
  return {
    caller: user(1000),
    digest: imageDigest,
    verification: verifyFiles(signatures, more.digest ?? imageDigest, policy),
    allowUnsigned: false,
    clientStores: false,
    now: new Date('2026-06-01T00:00:00Z'),
    newestVersion: () => undefined,
    ...more,
  };
}
