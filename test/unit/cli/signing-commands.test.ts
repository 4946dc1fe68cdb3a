import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addKeygenCommand } from '../../../src/cli/commands/keygen.ts';
import { addSignCommand } from '../../../src/cli/commands/sign.ts';
import { parseEnvelope } from '../../../src/trust/dsse.ts';
import { parsePublicKey } from '../../../src/trust/key.ts';
import { parseStatement } from '../../../src/trust/statement.ts';
import { verifySignatures } from '../../../src/trust/verify.ts';
import { verityDigest } from '../../../src/verity/verity.ts';
import type { Outcome } from './tool-program.ts';
import { run } from './tool-program.ts';

let folder: string;
let image: string;
let key: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-sign-'));
  image = join(folder, 'image');
  key = join(folder, 'key');
  const bytes = Buffer.alloc(5000);
  bytes.writeUInt32LE(0xe0f5e1e2, 1024);
  writeFileSync(image, bytes);
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const keygen = (path = key): Promise<Outcome> => run(addKeygenCommand, 'keygen', '--output', path);
const sign = (...more: readonly string[]): Promise<Outcome> =>
  run(addSignCommand, 'sign', image, '--key', key, '--name', 'site/a', ...more);
const signature = (): Uint8Array => readFileSync(`${image}.sig`);

describe('keygen', () => {
  test('writes a key that is secret, and its public half', async () => {
    const { stdout, failure } = await keygen();
    expect(failure).toBeUndefined();
    expect(readFileSync(key, 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    expect(statSync(key).mode & 0o777).toBe(0o600);
    expect(stdout).toBe(`${parsePublicKey(readFileSync(`${key}.pub`, 'utf8')).id}\n`);
  });

  test.each(['ed25519', 'ecdsa-p256', 'ecdsa-p384'])('makes a key of %s, which signs', async (algorithm) => {
    expect(
      (await run(addKeygenCommand, 'keygen', '-o', key, '--algorithm', algorithm)).failure,
    ).toBeUndefined();
    expect((await sign()).failure).toBeUndefined();
    const trusted = parsePublicKey(readFileSync(`${key}.pub`, 'utf8'));
    expect(trusted.algorithm).toBe(algorithm);
    const { statements } = verifySignatures([signature()], verityDigest(readFileSync(image)), [trusted]);
    expect(statements[0]?.signers).toEqual([trusted.id]);
  });

  test('overwrites nothing, and leaves no half of a pair', async () => {
    writeFileSync(key, 'mine');
    expect((await keygen()).failure).toBe(`${key}: it exists already`);
    expect(readFileSync(key, 'utf8')).toBe('mine');
    rmSync(key);
    writeFileSync(`${key}.pub`, 'mine');
    expect((await keygen()).failure).toBe(`${key}.pub: it exists already`);
    expect(readdirSync(folder).sort()).toEqual(['image', 'key.pub']);
  });
});

describe('sign', () => {
  test('states name, digest, filesystem, version and times', async () => {
    await keygen();
    const times = ['--not-before', '2026-01-01T00:00:00Z', '--expires', '2099-01-01T00:00:00+01:00'];
    expect((await sign('--version', '7', ...times)).failure).toBeUndefined();
    const digest = verityDigest(readFileSync(image));
    expect(parseStatement(parseEnvelope(signature()).payload)).toEqual({
      name: 'site/a',
      digest,
      fileSystem: 'erofs',
      version: 7,
      notBefore: new Date('2026-01-01T00:00:00Z'),
      expires: new Date('2098-12-31T23:00:00Z'),
    });
    const trusted = parsePublicKey(readFileSync(`${key}.pub`, 'utf8'));
    expect(verifySignatures([signature()], digest, [trusted]).statements[0]?.signers).toEqual([trusted.id]);
  });

  test('a second key is added, the same key is not', async () => {
    await keygen();
    await sign();
    const first = signature();
    await sign();
    expect(signature()).toEqual(first);
    key = join(folder, 'other');
    await keygen();
    expect((await sign()).failure).toBeUndefined();
    expect(parseEnvelope(signature()).signatures).toHaveLength(2);
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a signature that states something else is left alone', async () => {
    await keygen();
    await sign();
    const first = signature();
    expect((await sign('--version', '1')).failure).toMatch(/image\.sig: .*something else/);
    expect(signature()).toEqual(first);
    expect((await sign('--version', '1', '--output', join(folder, 'second'))).failure).toBeUndefined();
  });

  test('warns of times at which it counts for nothing', async () => {
    await keygen();
    expect((await sign('--expires', '2020-01-01T00:00:00Z')).stderr).toMatch(/^warning: --expires is past/);
  });

  test('warns where the image looks like something else, and asks where it looks like nothing', async () => {
    await keygen();
    expect((await sign('--file-system', 'composefs')).stderr).toMatch(
      /does not look like composefs, but like erofs/,
    );
    writeFileSync(image, 'nothing');
    expect((await sign('--output', join(folder, 'x'))).failure).toMatch(/say which it is with --file-system/);
  });

  test.each([
    [['--version', '-1'], /Not a whole number/],
    [['--version', '9007199254740992'], /Not a whole number/],
    [['--version', '1.5'], /Not a whole number/],
    [['--expires', 'tomorrow'], /Not a time as RFC 3339/],
    [['--file-system', 'vfat'], /Allowed choices are composefs, erofs/],
    [['--name', 'a//b'], /it cannot be stated so: the name is not/],
    [['--key', '/nonexistent/key'], /^\/nonexistent\/key: no such file or directory$/],
  ])('%j', async (words, message) => {
    await keygen();
    expect((await sign(...words)).failure).toMatch(message);
    expect(readdirSync(folder).sort()).toEqual(['image', 'key', 'key.pub']);
  });

  test('an encrypted key wants its passphrase', async () => {
    const secret = join(folder, 'secret');
    writeFileSync(secret, 'open sesame\n');
    await run(addKeygenCommand, 'keygen', '-o', key, '--passphrase-file', secret);
    expect(readFileSync(key, 'utf8')).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----\n/);
    expect((await sign()).failure).toBe(
      `${key}: an encrypted private key, and no terminal to ask on; give its passphrase with --passphrase-file`,
    );
    expect((await sign('--passphrase-file', secret)).failure).toBeUndefined();
    writeFileSync(secret, 'sesame\n');
    expect((await sign('--passphrase-file', secret)).failure).toMatch(/the passphrase is not the right one/);
    writeFileSync(secret, '\n');
    expect((await sign('--passphrase-file', secret)).failure).toBe(`${secret}: its first line is empty`);
  });

  test('--format ssh signs the digest and nothing else, into a file of its own', async () => {
    await keygen();
    const bare = (...more: readonly string[]): Promise<Outcome> =>
      run(addSignCommand, 'sign', image, '--key', key, '--format', 'ssh', ...more);
    expect((await bare('--name', 'site/a')).failure).toBe(
      '--name cannot be stated in the format ssh, which holds the digest and nothing else',
    );
    expect((await bare('--not-before', '2026-01-01T00:00:00Z')).failure).toMatch(/^--not-before cannot be/);
    expect((await bare()).failure).toBeUndefined();
    const trusted = parsePublicKey(readFileSync(`${key}.pub`, 'utf8'));
    const digest = verityDigest(readFileSync(image));
    expect(verifySignatures([signature()], digest, [trusted])).toEqual({
      statements: [],
      digestSignatures: [{ format: 'ssh', signers: [trusted.id], unknownKeyIds: [] }],
      faults: [],
    });
    expect((await bare()).failure).toMatch(/it exists already; write this signature to another file/);
  });

  test('wants a name for everything but --format ssh', async () => {
    await keygen();
    expect((await run(addSignCommand, 'sign', image, '--key', key)).failure).toMatch(
      /^say what the image is/,
    );
  });

  test('a public key is no private key', async () => {
    await keygen();
    const { failure } = await sign('--key', `${key}.pub`);
    expect(failure).toMatch(
      /this is a public key, with which ssh-agent would sign, and .*SSH_AUTH_SOCK is not set/,
    );
  });
});
