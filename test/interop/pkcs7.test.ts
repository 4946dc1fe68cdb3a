import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formattedDigest } from '../../src/trust/pkcs7-signature.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { smallImage } from '../support/hosting.ts';
import { needs } from '../support/needs.ts';

const installed =
  spawnSync('fsverity', ['--version']).status === 0 && spawnSync('openssl', ['version']).status === 0;
const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

const kinds = [
  { name: 'rsa', parameters: ['rsa:2048'] },
  { name: 'p256', parameters: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'] },
  { name: 'p384', parameters: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'] },
] as const;

describe.skipIf(needs('interop', installed, 'fsverity (fsverity-utils) or openssl is not installed'))(
  'PKCS#7',
  () => {
    let folder: string;
    let image: string;
    let content: string;

    const run = (program: string, ...words: readonly string[]): string => {
      const { status, stdout, stderr } = spawnSync(program, words, { encoding: 'utf8', cwd: folder });
      if (status !== 0) throw new Error(`${program} ${words.join(' ')}: ${stderr}`);
      return stdout;
    };
    const cfs = (...words: readonly string[]): { stdout: string; stderr: string; status: number | null } =>
      spawnSync(process.execPath, [tool, ...words], { encoding: 'utf8', cwd: folder });

    /** What `verify` answers by a policy with these keys, all of which a rule takes. */
    const verify = (signature: string, ...keys: readonly string[]): string => {
      const policy = join(folder, 'policy');
      rmSync(policy, { recursive: true, force: true });
      mkdirSync(join(policy, 'policy.d'), { recursive: true });
      mkdirSync(join(policy, 'keys.d'));
      const entries = keys.map((key, index) => {
        const [file = '', more = ''] = key.split(' ');
        run('cp', file, join(policy, 'keys.d', file));
        return `[[keys]]\nid = "${index}"\nfile = "${file}"\n${more}\n`;
      });
      const ids = keys.map((_, index) => `"${index}"`).join(', ');
      const rule = `[[rules]]\nname = "bare"\nsigned-by = [${ids}]\nformats = ["fsverity-pkcs7"]\nfile-systems = ["composefs"]\nverity = "never"\n`;
      writeFileSync(join(policy, 'policy.d', 'policy.toml'), entries.join('') + rule);
      const parameters = ['--policy', policy, '--file-system', 'composefs', '--signature', signature];
      const { stdout, stderr } = cfs('verify', image, ...parameters);
      return stdout + stderr.replaceAll(/^warning: .*\n/gm, '');
    };

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'cfs-pkcs7-'));
      image = join(folder, 'image');
      content = join(folder, 'content');
      const bytes = smallImage({ hello: 'an image' });
      writeFileSync(image, bytes);
      writeFileSync(content, formattedDigest(verityDigest(bytes)));
      for (const { name, parameters } of kinds) {
        const names = ['-keyout', `${name}.key`, '-x509', '-out', `${name}.crt`, '-subj', `/CN=${name}`];
        run('openssl', 'req', '-newkey', ...parameters, '-nodes', '-days', '30', ...names);
      }
    });
    afterAll(() => {
      rmSync(folder, { recursive: true });
    });

    test.each(kinds)('what fsverity signs by $name is verified here', ({ name }) => {
      run('fsverity', 'sign', 'image', `${name}.fsv`, `--key=${name}.key`, `--cert=${name}.crt`);
      expect(verify(`${name}.fsv`, `${name}.crt`)).toContain('allowed by rule "bare"');
      const another = name === 'rsa' ? 'p256' : 'rsa';
      expect(verify(`${name}.fsv`, `${another}.crt`)).toContain('KeyNotTrusted');
    });

    test.each([
      ['smime', ['-noattr']],
      ['smime', []],
      ['cms', ['-noattr']],
      ['cms', []],
      ['cms', ['-noattr', '-nocerts', '-keyid']],
      ['cms', ['-md', 'sha512']],
    ] as const)('what openssl %s signs with %j is verified here', (command, options) => {
      for (const { name } of kinds) {
        const own = ['-signer', `${name}.crt`, '-inkey', `${name}.key`, '-out', `${name}.p7s`];
        run('openssl', command, '-sign', '-binary', ...options, '-outform', 'der', '-in', content, ...own);
        expect(verify(`${name}.p7s`, `${name}.crt`)).toContain('allowed by rule "bare"');
      }
    });

    test.each([
      [['-nodetach'], 'is to be detached'],
      [['-stream', '-indef'], 'an indefinite length'],
      [['-md', 'sha1'], 'SHA-1, which is not taken'],
      [['-cades'], 'which is not understood'],
      [['-keyopt', 'rsa_padding_mode:pss'], 'RSASSA-PSS, which is not taken'],
    ] as const)('what openssl cms signs with %j is refused by name', (options, reason) => {
      const own = ['-signer', 'rsa.crt', '-inkey', 'rsa.key', ...options, '-out', 'bad.p7s'];
      const result = spawnSync(
        'openssl',
        ['cms', '-sign', '-binary', '-outform', 'der', '-in', content, ...own],
        { cwd: folder },
      );
      expect(result.status).toBe(0);
      expect(verify('bad.p7s', 'rsa.crt')).toContain(reason);
    });

    test.each(kinds)('what is signed here by $name is verified by openssl', ({ name }) => {
      const signature = `${name}.ours`;
      const own = ['--key', `${name}.key`, '--certificate', `${name}.crt`, '--output', signature];
      expect(cfs('sign', image, '--format', 'fsverity-pkcs7', ...own).stderr).toBe('');
      for (const command of ['smime', 'cms']) {
        const parameters = ['-in', signature, '-content', content, '-CAfile', `${name}.crt`, '-out', 'out'];
        run('openssl', command, '-verify', '-binary', '-inform', 'der', ...parameters, '-purpose', 'any');
      }
      expect(verify(signature, `${name}.crt`)).toContain('allowed by rule "bare"');
    });

    test('what is signed here is what fsverity signs, byte for byte, but for the certificate', () => {
      const own = ['--key', 'rsa.key', '--certificate', 'rsa.crt', '--output', 'same.ours'];
      expect(cfs('sign', image, '--format', 'fsverity-pkcs7', ...own).status).toBe(0);
      run('fsverity', 'sign', 'image', 'same.fsv', '--key=rsa.key', '--cert=rsa.crt');
      const print = (file: string): string[] =>
        run('openssl', 'cms', '-cmsout', '-print', '-noout', '-inform', 'der', '-in', file).split('\n');
      const signers = (lines: string[]): string[] =>
        lines.slice(lines.findIndex((line) => line.includes('signerInfos')));
      expect(signers(print('same.ours'))).toEqual(signers(print('same.fsv')));
    });

    test('a chain of openssl leads to its authority, within its path length', () => {
      const request = (name: string): void => {
        const parameters = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
        run('openssl', 'req', '-newkey', ...parameters, '-subj', `/CN=${name}`, '-out', `${name}.csr`);
      };
      const issue = (name: string, by: string, extensions: string): void => {
        writeFileSync(join(folder, `${name}.ext`), extensions);
        request(name);
        const parameters = ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial', '-days', '30'];
        const files = ['-in', `${name}.csr`, '-out', `${name}.crt`, '-extfile', `${name}.ext`];
        run('openssl', 'x509', '-req', ...parameters, ...files);
      };
      const own = ['-keyout', 'root.key', '-x509', '-out', 'root.crt', '-subj', '/CN=root', '-nodes'];
      const ca = 'basicConstraints=critical,CA:TRUE,pathlen:1';
      const usage = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign', '-addext', ca];
      const config = join(folder, 'empty.cnf');
      writeFileSync(config, '[req]\ndistinguished_name=dn\n[dn]\n');
      run('openssl', 'req', '-config', config, '-newkey', 'rsa:2048', ...own, ...usage, '-days', '30');
      issue('middle', 'root', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
      issue('below', 'middle', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
      const leaf = 'keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n';
      for (const [name, by, chain] of [
        ['signer', 'middle', ['middle']],
        ['deep', 'below', ['below', 'middle']],
      ] as const) {
        issue(name, by, leaf);
        const all = chain.map((each) => run('cat', `${each}.crt`)).join('');
        writeFileSync(join(folder, `${name}.chain`), all);
        const files = ['-certfile', `${name}.chain`, '-in', content, '-out', `${name}.p7s`];
        const keys = ['-signer', `${name}.crt`, '-inkey', `${name}.key`];
        run('openssl', 'cms', '-sign', '-binary', '-noattr', '-outform', 'der', ...keys, ...files);
      }
      expect(verify('signer.p7s', 'root.crt authority=true')).toContain('allowed by rule "bare"');
      expect(verify('signer.p7s', 'root.crt')).toContain('KeyNotTrusted');
      expect(verify('deep.p7s', 'root.crt authority=true')).toContain('pathLenConstraint');
      writeFileSync(join(folder, 'ours.chain'), run('cat', 'signer.crt', 'middle.crt'));
      const ours = ['--certificate', 'ours.chain', '--key', 'signer.key', '--output', 'chained.ours'];
      expect(cfs('sign', image, '--format', 'fsverity-pkcs7', ...ours).stderr).toBe('');
      const parameters = ['-in', 'chained.ours', '-content', content, '-CAfile', 'root.crt', '-out', 'out'];
      run('openssl', 'cms', '-verify', '-binary', '-inform', 'der', ...parameters, '-purpose', 'any');
      expect(verify('chained.ours', 'root.crt authority=true')).toContain('allowed by rule "bare"');
    });

    test('a certificate of another key is not signed with, nor is none', () => {
      const own = ['--key', 'rsa.key', '--output', 'none'];
      expect(cfs('sign', image, '--format', 'fsverity-pkcs7', ...own).stderr).toContain('with --certificate');
      const other = cfs('sign', image, '--format', 'fsverity-pkcs7', ...own, '--certificate', 'p256.crt');
      expect(other.stderr).toContain('the certificate is of the key');
    });
  },
);
