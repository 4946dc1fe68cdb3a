import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { digestFromBytes } from '../../src/base/digest.ts';
import { decide } from '../../src/policy/decide.ts';
import { loadPolicy } from '../../src/policy/load.ts';
import type { Policy } from '../../src/policy/policy.ts';
import { askPolicyKeyrings, verifyFiles, withKeyrings } from '../../src/policy/verify-files.ts';
import { askKeyring } from '../../src/sys/keyring.ts';
import { parsePublicKey } from '../../src/trust/key.ts';
import { formattedDigest } from '../../src/trust/pkcs7-signature.ts';
import { absent, isRoot } from '../support/needs.ts';

// What the kernel's keyrings say of signatures that openssl made, on keyrings of this test's own. Another process holds each, so that
// this one comes by it as the service does by .fs-verity: by /proc/keys, and with the rights of root alone.

const folder = mkdtempSync(join(tmpdir(), 'cfs-keyring-'));
const program = join(import.meta.dirname, '../support/keyring.py');
const digest = digestFromBytes(new Uint8Array(32).fill(7));
/** As policy/README.md says. */
const closed = '081b0000';

function run(name: string, ...words: readonly string[]): Buffer | undefined {
  const { status, stdout } = spawnSync(name, words, { cwd: folder });
  return status === 0 ? stdout : undefined;
}

function makeCertificate(name: string, kind: readonly string[], subject = `/CN=${name}`): boolean {
  const own = ['-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', subject, '-set_serial', '4711'];
  return (
    run('openssl', 'req', '-x509', '-newkey', ...kind, ...own, '-nodes', '-days', '30') !== undefined &&
    run('openssl', 'x509', '-in', `${name}.crt`, '-outform', 'der', '-out', `${name}.der`) !== undefined
  );
}

/** A signature as `fsverity sign` makes it, or with more. */
function sign(name: string, ...more: readonly string[]): Uint8Array {
  writeFileSync(join(folder, 'content'), formattedDigest(digest));
  const how = ['-binary', '-outform', 'der', '-in', 'content', '-md', 'sha256', ...more];
  const made = run('openssl', 'cms', '-sign', ...how, '-signer', `${name}.crt`, '-inkey', `${name}.key`);
  if (made === undefined) throw new Error('openssl made no signature');
  return made;
}
const bare = ['-noattr', '-nocerts'];

/** Whether the kernel lets us make a keyring with that certificate. */
function takes(file: string): boolean {
  const { status } = spawnSync('python3', [program, 'cfs-test-probe', closed, file], {
    cwd: folder,
    input: '',
  });
  return status === 0;
}

const holders: ChildProcessWithoutNullStreams[] = [];
let rings = 0;

/** A keyring with these certificates. */
async function hold(permissions: string, ...files: readonly string[]): Promise<Ring> {
  return await holdAs(`cfs-test-${process.pid}-${rings++}`, permissions, ...files);
}

async function holdAs(name: string, permissions: string, ...files: readonly string[]): Promise<Ring> {
  const holder = spawn('python3', [program, name, permissions, ...files], { cwd: folder });
  holders.push(holder);
  const lines = createInterface(holder.stdout)[Symbol.asyncIterator]();
  const serial = Number((await lines.next()).value);
  expect(serial).toBeGreaterThan(0);
  const tell = async (line: string): Promise<void> => {
    holder.stdin.write(`${line}\n`);
    expect((await lines.next()).value).toBe('done');
  };
  return { name, serial, tell };
}

interface Ring {
  readonly name: string;
  readonly serial: number;
  readonly tell: (line: string) => Promise<void>;
}

afterEach(() => {
  for (const holder of holders.splice(0)) holder.stdin.end();
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A policy whose one rule goes by the keyring; with `more` tables. */
function policyBy({ name }: Pick<Ring, 'name'>, more = ''): Policy {
  rmSync(join(folder, 'policy.d'), { recursive: true, force: true });
  mkdirSync(join(folder, 'policy.d'));
  mkdirSync(join(folder, 'keys.d'), { recursive: true });
  writeFileSync(join(folder, 'keys.d', 'vendor.crt'), readFileSync(join(folder, 'vendor.crt')));
  const text =
    '[[keys]]\nid = "ring"\nkeyring = ".fs-verity"\n' +
    '[[rules]]\nname = "r"\nsigned-by = ["ring"]\nformats = ["fsverity-pkcs7"]\n';
  writeFileSync(join(folder, 'policy.d', '10.toml'), text + more);
  const { policy } = loadPolicy([folder], { owners: 'warn' });
  const [ring] = policy.keyrings.values();
  if (ring === undefined) throw new Error('the policy names a keyring');
  // Only the kernel makes keyrings with a dot in front, and policies take no others: this test's stands in for it.
  return { ...policy, keyrings: new Map([['ring', { ...ring, keyring: name }]]) };
}

/** The rule's word, or the refusal's. */
function outcome(policy: Policy, file: Uint8Array): string {
  const decision = decide(policy, {
    caller: { uid: 1000, root: false, gids: [] },
    digest,
    verification: withKeyrings(
      verifyFiles([file], digest, policy),
      askPolicyKeyrings([file], digest, policy, askKeyring),
    ),
    allowUnsigned: false,
    clientStores: false,
    now: new Date(),
    newestVersion: () => undefined,
  });
  return decision.outcome === 'allow' ? decision.evidence.signers.join() : decision.refusal.message;
}

const rsa = ['rsa:2048'];
const available =
  isRoot &&
  run('keyctl', '--version') !== undefined &&
  makeCertificate('vendor', rsa) &&
  makeCertificate('namesake', rsa, '/CN=vendor') &&
  makeCertificate('small', ['rsa:1024']) &&
  makeCertificate('curve', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']) &&
  takes('vendor.der');

describe.skipIf(absent(available, 'the kernel takes no certificates into keyrings here, or not from us'))(
  "a keyring of the kernel's",
  () => {
    test.each([
      ['as fsverity sign makes them', bare],
      ['with signed attributes and certificate', []],
      ['by key identifier', ['-noattr', '-keyid']],
      ['with SHA-512', ['-noattr', '-md', 'sha512']],
    ])('vouches for signatures by its keys: %s', async (_how, more) => {
      const ring = await hold(closed, 'vendor.der');
      expect(outcome(policyBy(ring), sign('vendor', ...more))).toBe('ring');
    });

    test('vouches for nobody who uses the name of another, and says so', async () => {
      const ring = await hold(closed, 'vendor.der');
      expect(outcome(policyBy(ring), sign('namesake', ...bare))).toContain('does not verify by it');
      expect(outcome(policyBy(ring), sign('namesake', '-noattr', '-keyid'))).toMatch(
        /not a key of this policy/,
      );
    });

    test('vouches for no other digest', async () => {
      const ring = await hold(closed, 'vendor.der');
      const about = formattedDigest(digestFromBytes(new Uint8Array(32).fill(8)));
      for (const more of [bare, []]) {
        writeFileSync(join(folder, 'other'), about);
        expect(outcome(policyBy(ring), sign('vendor', '-in', 'other', ...more))).toMatch(/does not verify/);
      }
    });

    test.skipIf(absent(takes('curve.der'), 'this kernel has no ECDSA, and takes no certificates with it'))(
      'vouches for ECDSA',
      async () => {
        const ring = await hold(closed, 'curve.der');
        const file = sign('curve', ...bare);
        expect(outcome(policyBy(ring), file)).toBe('ring');
        expect(outcome(policyBy(ring), sign('curve', ...bare, '-in', 'vendor.crt'))).toContain(
          'does not verify by it',
        );
      },
    );

    test('vouches for no key that is too small', async () => {
      const ring = await hold(closed, 'small.der');
      expect(outcome(policyBy(ring), sign('small', ...bare))).toContain('of 1024 bits');
    });

    test.each(['0c1b0000', '081f0000', '083b0000', '081b0400', '081b0004', '281b0000'])(
      'is not gone by while somebody can change it: %s',
      async (permissions) => {
        const ring = await hold(permissions, 'vendor.der');
        expect(outcome(policyBy(ring), sign('vendor', ...bare))).toContain(
          `is not closed: whoever has user ID 0, in a container as well, can put keys into it; "keyctl setperm %:${ring.name} 0x${closed}"`,
        );
      },
    );

    test('says what is missing where its keys cannot be searched for', async () => {
      const ring = await hold('080b0000', 'vendor.der');
      expect(outcome(policyBy(ring), sign('vendor', ...bare))).toContain(
        'does not let itself be searched for',
      );
    });

    test('has no more than what lies in itself: a keyring within it is nobody’s word', async () => {
      const ring = await hold(closed, '--nested', 'vendor.der');
      expect(outcome(policyBy(ring), sign('vendor', ...bare))).toMatch(/not a key of this policy/);
    });

    test('forgets a key that is revoked in it at once', async () => {
      const ring = await hold(closed, 'vendor.der');
      const policy = policyBy(ring);
      const file = sign('vendor', ...bare);
      expect(outcome(policy, file)).toBe('ring');
      await ring.tell('revoke');
      expect(outcome(policy, file)).toMatch(/^rule "r": signers: 0 of/);
    });

    test('is filled, closed and emptied by the commands that the manual has', async () => {
      const manual = readFileSync(join(import.meta.dirname, '../../policy/README.md'), 'utf8');
      const blocks = [...manual.matchAll(/```\n(keyctl [^]*?)```/g)].map((match) => match[1] ?? '');
      const [fill = '', revoke = ''] = blocks;
      expect(blocks).toHaveLength(2);
      const ring = await hold('083f0000');
      const command = (text: string, key = ''): string =>
        text.replaceAll('.fs-verity', ring.name).replace('CERTIFICATE.der', 'vendor.der').replace('KEY', key);
      const shown = run('sh', '-ec', command(fill))?.toString() ?? '';
      const key = /(\d+) .*asymmetric: vendor: /.exec(shown)?.[1];
      expect(key, shown).toBeDefined();
      const policy = policyBy(ring);
      const file = sign('vendor', ...bare);
      expect(outcome(policy, file)).toBe('ring');
      expect(run('sh', '-ec', command(revoke, key))).toBeDefined();
      expect(outcome(policy, file)).toContain('EKEYREVOKED');
    });

    test('has certificates that become keys of a policy by the commands that the manual has', () => {
      const manual = readFileSync(join(import.meta.dirname, '../../policy/README.md'), 'utf8');
      const convert = /```\n(openssl x509 -inform der [^]*?)```/.exec(manual)?.[1] ?? '';
      mkdirSync(join(folder, 'keys.d'), { recursive: true });
      rmSync(join(folder, 'keys.d', 'vendor.crt'), { force: true });
      const here = convert.replaceAll('CERTIFICATE.der', 'vendor.der').replaceAll('/etc/cfs-mountd/', '');
      expect(run('sh', '-ec', here)?.toString()).toMatch(/^subject=CN *= *vendor/);
      const text = readFileSync(join(folder, 'keys.d', 'vendor.crt'), 'utf8');
      expect(parsePublicKey(text).id).toBe(
        parsePublicKey(readFileSync(join(folder, 'vendor.crt'), 'utf8')).id,
      );
    });

    test('is not found by what somebody else writes into /proc/keys, nor by two of its name', async () => {
      const ring = await hold(closed, 'vendor.der');
      const serial = ring.serial.toString(16).padStart(8, '0');
      await ring.tell(
        `name x\\n${serial} I------     1 perm 081b0000     0     0 keyring   cfs-test-forged: 1`,
      );
      expect(readFileSync('/proc/keys', 'latin1')).toContain('cfs-test-forged');
      const file = sign('vendor', ...bare);
      expect(outcome(policyBy({ name: 'cfs-test-forged' }), file)).toContain('is not to be seen');
      await holdAs(ring.name, closed, 'vendor.der');
      expect(outcome(policyBy(ring), file)).toContain('is one of several of that name');
    });

    test('counts on only for keys that the policy has too, while the policy revokes keys', async () => {
      const ring = await hold(closed, 'vendor.der');
      const file = sign('vendor', ...bare);
      const revoking = (key: string): string => `[[revoked]]\nkey = "${key}"\n`;
      const known = '[[keys]]\nid = "vendor"\nfile = "vendor.crt"\n';
      const other = revoking('0'.repeat(64));
      expect(outcome(policyBy(ring, other), file)).toContain('may be a key that is revoked');
      expect(outcome(policyBy(ring, other + known), file)).toBe('ring');
      const id = policyBy(ring, known).keys.get('vendor')?.key.id ?? '';
      expect(outcome(policyBy(ring, known + revoking(id)), file)).toMatch(/"ring" \(revoked\)/);
    });
  },
);
