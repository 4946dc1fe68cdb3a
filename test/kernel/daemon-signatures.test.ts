import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formattedDigest } from '../../src/trust/pkcs7-signature.ts';
import { digestLine } from '../../src/trust/ssh-signature.ts';
import { digestOf, Host, makePlace, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { hasProgram } from './sys-room.ts';

const helper = resolve(import.meta.dirname, '../../dist/cli/mount.cfs-delegated.cjs');
const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');
const ready = isRoot && ['ssh-keygen', 'openssl', 'setpriv', 'unshare'].every(hasProgram);

const sshKinds = [
  ['ed25519', ['-t', 'ed25519']],
  ['ecdsa', ['-t', 'ecdsa', '-b', '384']],
  ['rsa', ['-t', 'rsa', '-b', '2048']],
] as const;

describe.skipIf(needs('kernel', ready, 'root, ssh-keygen, openssl, setpriv, unshare'))(
  'a service whose rules take signatures over the bare digest',
  () => {
    let place: Place;
    let host: Host;
    const image = smallImage({ hello: 'hello\n' });
    const digest = digestOf(image);

    const run = (program: string, ...words: readonly string[]): string => {
      const { status, stdout, stderr } = spawnSync(program, words, { encoding: 'utf8', cwd: place.folder });
      if (status !== 0) throw new Error(`${program} ${words.join(' ')}: ${stderr}`);
      return stdout;
    };
    const at = (name: string): string => join(place.folder, name);

    /** Mounts the image with a signature as user 1000, in a user namespace of its own, and reads a file of it. */
    const mountAsUser = (signature: string): { stdout: string; stderr: string } => {
      const script = '"$1" "$2" "$3" "$4" -o "socket=$5,signature=$6" && cat "$4/hello"';
      const asUser = ['--reuid=1000', '--regid=1000', '--clear-groups', '--', 'unshare', '-rm', 'sh', '-c'];
      const words = ['sh', process.execPath, helper, at('image.cfs'), at('mnt'), host.socketPath, signature];
      return spawnSync('setpriv', [...asUser, script, ...words], { encoding: 'utf8', cwd: '/' });
    };

    beforeAll(async () => {
      place = makePlace('daemon-signatures');
      mkdirSync(at('mnt'));
      writeFileSync(at('image.cfs'), image);
      writeFileSync(at('line'), digestLine(digest));
      writeFileSync(at('content'), formattedDigest(digest));
      const keys: Record<string, string> = {};
      for (const [name, parameters] of sshKinds) {
        run('ssh-keygen', '-q', ...parameters, '-N', '', '-f', name);
        keys[`${name}.pub`] = readFileSync(at(`${name}.pub`), 'utf8');
      }
      const own = ['-keyout', 'x509.key', '-x509', '-out', 'x509.crt', '-subj', '/CN=x509', '-nodes'];
      run('openssl', 'req', '-newkey', 'rsa:2048', ...own, '-days', '30');
      keys['x509.pub'] = readFileSync(at('x509.crt'), 'utf8');
      chmodSync(place.folder, 0o755);
      const entries = Object.keys(keys).map(
        (file) => `[[keys]]\nid = "${file.split('.')[0]}"\nfile = "${file}"\n`,
      );
      const rule = (name: string, more: string): string =>
        `[[rules]]\nname = "${name}"\nusers = ["1000"]\nverity = "never"\n${more}\n`;
      const policy =
        entries.join('') +
        rule('ssh', 'signed-by = ["ed25519", "ecdsa", "rsa"]\nformats = ["ssh"]') +
        rule('pkcs7', 'signed-by = ["x509", "ed25519"]\nformats = ["fsverity-pkcs7"]');
      host = await Host.start({ folder: place.folder, policy: { '10.toml': policy }, keys });
    });
    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    test.each(sshKinds)('an unprivileged user mounts what ssh-keygen signed by %s', async (name) => {
      const { stdout } = spawnSync('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'cfs-mountd', '-f', at(name)], {
        input: digestLine(digest),
      });
      writeFileSync(at(`${name}.sig`), stdout);
      const { stdout: read, stderr } = mountAsUser(at(`${name}.sig`));
      expect(stderr + read).toContain('hello\n');
      await host.until('it is audited', () => host.audit.at(-1)?.['rule'] === 'ssh');
      // The offline answer is the same.
      const parameters = ['--policy', at('policy'), '--user', '1000', '--signature', at(`${name}.sig`)];
      expect(run(process.execPath, tool, 'verify', at('image.cfs'), ...parameters)).toContain(
        'allowed by rule "ssh"',
      );
    });

    test('an unprivileged user mounts what openssl signed', async () => {
      const own = ['-signer', 'x509.crt', '-inkey', 'x509.key', '-out', 'x509.sig'];
      run('openssl', 'cms', '-sign', '-binary', '-outform', 'der', '-in', 'content', ...own);
      const { stdout, stderr } = mountAsUser(at('x509.sig'));
      expect(stderr + stdout).toContain('hello\n');
      await host.until('it is audited', () => host.audit.at(-1)?.['rule'] === 'pkcs7');
    });

    test('and is told why another signature is not enough', () => {
      rmSync(at('stranger'), { force: true });
      run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', 'stranger');
      const { stdout } = spawnSync(
        'ssh-keygen',
        ['-q', '-Y', 'sign', '-n', 'cfs-mountd', '-f', at('stranger')],
        {
          input: digestLine(digest),
        },
      );
      writeFileSync(at('stranger.sig'), stdout);
      expect(mountAsUser(at('stranger.sig')).stderr).toContain('KeyNotTrusted');
      writeFileSync(at('indefinite.sig'), Buffer.from('3080060900', 'hex'));
      expect(mountAsUser(at('indefinite.sig')).stderr).toContain('an indefinite length');
    });
  },
);
