import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { parsePublicKey } from '../../src/trust/key.ts';
import { smallImage } from '../support/hosting.ts';
import { needs } from '../support/needs.ts';

const installed = spawnSync('ssh-keygen', ['-?']).error === undefined;
const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

const kinds = [
  { name: 'ed25519', parameters: ['-t', 'ed25519'], openssl: ['-algorithm', 'ed25519'], type: 'ssh-ed25519' },
  {
    name: 'ecdsa-p256',
    parameters: ['-t', 'ecdsa', '-b', '256'],
    openssl: [
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-pkeyopt',
      'ec_param_enc:named_curve',
    ],
    type: 'ecdsa-sha2-nistp256',
  },
  {
    name: 'ecdsa-p384',
    parameters: ['-t', 'ecdsa', '-b', '384'],
    openssl: [
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:P-384',
      '-pkeyopt',
      'ec_param_enc:named_curve',
    ],
    type: 'ecdsa-sha2-nistp384',
  },
  {
    name: 'rsa',
    parameters: ['-t', 'rsa', '-b', '2048'],
    openssl: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'],
    type: 'ssh-rsa',
  },
] as const;

describe.skipIf(needs('interop', installed, 'ssh-keygen (openssh-client) is not installed'))(
  'OpenSSH',
  () => {
    let folder: string;
    let image: string;
    let line: string;

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'cfs-openssh-'));
      image = join(folder, 'image');
      line = join(folder, 'line');
      // Nothing looks into a filesystem of this kind to verify it.
      writeFileSync(image, smallImage({ hello: 'an image' }));
      writeFileSync(line, cfs('digest', '--statement', image).stdout);
    });
    afterAll(() => {
      rmSync(folder, { recursive: true });
    });

    function cfs(...words: readonly string[]): { stdout: string; stderr: string; status: number | null } {
      return spawnSync(process.execPath, [tool, ...words], { encoding: 'utf8' });
    }

    /** What `verify` answers by a policy that takes ssh signatures by the key. */
    function verify(publicKey: string, signature: string): ReturnType<typeof cfs> {
      const policy = join(folder, 'policy');
      rmSync(policy, { recursive: true, force: true });
      execFileSync('mkdir', ['-p', join(policy, 'policy.d'), join(policy, 'keys.d')]);
      copyFileSync(publicKey, join(policy, 'keys.d', 'signer.pub'));
      const rules =
        '[[keys]]\nid = "signer"\nfile = "signer.pub"\n[[rules]]\nname = "bare"\nsigned-by = ["signer"]\n' +
        'formats = ["ssh"]\nfile-systems = ["composefs"]\nverity = "never"\n';
      writeFileSync(join(policy, 'policy.d', 'policy.toml'), rules);
      return cfs('verify', image, '--policy', policy, '--file-system', 'composefs', '--signature', signature);
    }

    test.each(kinds)('what ssh-keygen signs by $name is verified here', ({ name, parameters }) => {
      const key = join(folder, `theirs-${name}`);
      execFileSync('ssh-keygen', ['-q', ...parameters, '-N', '', '-f', key]);
      for (const hash of ['sha256', 'sha512']) {
        rmSync(`${line}.sig`, { force: true });
        execFileSync('ssh-keygen', [
          '-q',
          '-Y',
          'sign',
          '-n',
          'cfs-mountd',
          '-O',
          `hashalg=${hash}`,
          '-f',
          key,
          line,
        ]);
        const { stdout, stderr } = verify(`${key}.pub`, `${line}.sig`);
        expect(stderr.replace(/^warning: .*\n/gm, '')).not.toContain('SignatureInvalid');
        expect(stdout).toContain('allowed by rule "bare"');
      }
    });

    test('what ssh-keygen signs for something else is refused', () => {
      const key = join(folder, 'elsewhere');
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
      rmSync(`${line}.sig`, { force: true });
      execFileSync('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'file', '-f', key, line]);
      const { stderr, status } = verify(`${key}.pub`, `${line}.sig`);
      expect(stderr).toContain('made for the namespace "file"');
      expect(status).toBe(1);
    });

    test.each(kinds)('what is signed here by $name is verified by ssh-keygen', ({ name, openssl, type }) => {
      const key = join(folder, `ours-${name}`);
      execFileSync('openssl', ['genpkey', ...openssl, '-out', key], { stdio: 'pipe' });
      execFileSync('openssl', ['pkey', '-in', key, '-pubout', '-out', `${key}.pub`]);
      const signature = `${key}.sig`;
      const signed = cfs('sign', image, '--format', 'ssh', '--key', key, '--output', signature);
      expect(signed.stderr).toBe('');
      const publicKey = parsePublicKey(readFileSync(`${key}.pub`, 'utf8'));
      const signers = join(folder, 'allowed');
      writeFileSync(signers, `signer namespaces="cfs-mountd" ${type} ${toBase64(publicKey.sshBlob)}\n`);
      const verified = spawnSync(
        'ssh-keygen',
        ['-Y', 'verify', '-f', signers, '-I', 'signer', '-n', 'cfs-mountd', '-s', signature],
        { encoding: 'utf8', input: readFileSync(line) },
      );
      expect(verified.stdout + verified.stderr).toContain('Good "cfs-mountd" signature for signer');
      expect(verified.status).toBe(0);
      expect(verify(`${key}.pub`, signature).stdout).toContain('allowed by rule "bare"');
    });

    test('what is signed here is what ssh-keygen signs, byte for byte, where nothing is left to chance', () => {
      const key = join(folder, 'both');
      execFileSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '2048', '-m', 'PKCS8', '-N', '', '-f', key]);
      const theirs = execFileSync('ssh-keygen', ['-Y', 'sign', '-n', 'cfs-mountd', '-f', key], {
        input: readFileSync(line),
        stdio: 'pipe',
      });
      expect(cfs('sign', image, '--format', 'ssh', '--key', key).stderr).toBe('');
      expect(readFileSync(`${image}.sig`, 'utf8')).toBe(theirs.toString());
    });
  },
);
