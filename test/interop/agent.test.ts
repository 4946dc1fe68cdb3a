import { spawn, spawnSync, type ChildProcess, type SpawnSyncReturns } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sshString } from '../../src/trust/ssh-wire.ts';
import { smallImage } from '../support/hosting.ts';
import { needs } from '../support/needs.ts';

const installed = ['ssh-keygen', 'ssh-add', 'ssh-agent'].every(
  (program) => spawnSync(program, ['-?']).error === undefined,
);
const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

/** Runs a program on a terminal, answers its prompt, and prints what the terminal showed. */
const onTerminal = `
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown = b""
answered = False
while True:
    try:
        part = os.read(terminal, 1024)
    except OSError:
        break
    if not part:
        break
    shown += part
    if not answered and b"Passphrase of" in shown:
        os.write(terminal, sys.argv[1].encode().decode("unicode_escape").encode("latin1"))
        answered = True
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`;

/** A reply of an agent's with a signature. */
function signReply(algorithm: string, signature: Uint8Array): Buffer {
  const inner = Buffer.concat([sshString(algorithm), sshString(signature)]);
  return Buffer.from(sshString(Buffer.concat([Buffer.of(14), sshString(inner)])));
}

describe.skipIf(needs('interop', installed, 'ssh-agent and its kin (openssh-client) are not installed'))(
  'keys that this program never reads',
  () => {
    let folder: string;
    let image: string;
    let socket: string;
    let agent: ChildProcess;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'cfs-agent-'));
      image = join(folder, 'image');
      socket = join(folder, 'agent.socket');
      writeFileSync(image, smallImage({ hello: 'an image' }));
      agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
      for (let tries = 0; !existsSync(socket); tries++) {
        if (tries > 500) throw new Error('ssh-agent does not start');
        await wait(20);
      }
    });
    afterAll(async () => {
      const ended = new Promise((done) => agent.once('exit', done));
      agent.kill();
      await ended;
      rmSync(folder, { recursive: true });
    });

    function run(program: string, words: readonly string[], input = ''): SpawnSyncReturns<string> {
      const env = { ...process.env, SSH_AUTH_SOCK: socket };
      return spawnSync(program, [...words], { encoding: 'utf8', env, input });
    }
    const cfs = (...words: readonly string[]): ReturnType<typeof run> =>
      run(process.execPath, [tool, ...words]);

    /** Makes a key that only the agent has; the path of its public half. */
    function keyInAgent(name: string, parameters: readonly string[]): string {
      const key = join(folder, name);
      expect(run('ssh-keygen', ['-q', '-N', '', '-C', name, '-f', key, ...parameters]).status).toBe(0);
      expect(run('ssh-add', ['-q', key]).status).toBe(0);
      rmSync(key);
      return `${key}.pub`;
    }

    /** Whether offline verify takes a signature by the key, in the format. */
    function isTaken(publicKey: string, format: 'dsse' | 'ssh', signature: string): boolean {
      const policy = join(folder, 'policy');
      rmSync(policy, { recursive: true, force: true });
      for (const name of ['policy.d', 'keys.d']) mkdirSync(join(policy, name), { recursive: true });
      copyFileSync(publicKey, join(policy, 'keys.d', 'signer.pub'));
      writeFileSync(
        join(policy, 'policy.d', '10.toml'),
        '[[keys]]\nid = "signer"\nfile = "signer.pub"\n[[rules]]\nname = "r"\nsigned-by = ["signer"]\n' +
          `formats = ["${format}"]\nfile-systems = ["composefs"]\nverity = "never"\n`,
      );
      const words = ['--policy', policy, '--file-system', 'composefs', '--signature', signature];
      return cfs('verify', image, ...words).status === 0;
    }

    const kinds = [
      ['ed25519', ['-t', 'ed25519']],
      ['ecdsa-256', ['-t', 'ecdsa', '-b', '256']],
      ['ecdsa-384', ['-t', 'ecdsa', '-b', '384']],
      ['rsa', ['-t', 'rsa', '-b', '2048']],
    ] as const;

    test.each(kinds)('ssh-agent signs with a key of kind %s', (name, parameters) => {
      const key = keyInAgent(name, parameters);
      const bare = join(folder, `${name}.ssh.sig`);
      const signed = cfs('sign', image, '--key', key, '--format', 'ssh', '--output', bare);
      expect(signed.stderr).toBe('');
      expect(isTaken(key, 'ssh', bare)).toBe(true);
      const allowed = join(folder, 'allowed');
      writeFileSync(allowed, `signer ${readFileSync(key, 'utf8')}`);
      const line = cfs('digest', '--statement', image).stdout;
      const words = ['-Y', 'verify', '-f', allowed, '-I', 'signer', '-n', 'cfs-mountd', '-s', bare];
      expect(run('ssh-keygen', words, line).status).toBe(0);

      const envelope = join(folder, `${name}.dsse.sig`);
      const named = ['--name', 'a/b', '--file-system', 'composefs', '--output', envelope];
      const stated = cfs('sign', image, '--key', key, ...named);
      if (name === 'rsa') {
        expect(stated.stderr).toMatch(/an RSA key, which signs in OpenSSH's format only/);
        expect(existsSync(envelope)).toBe(false);
        return;
      }
      expect(stated.status).toBe(0);
      expect(isTaken(key, 'dsse', envelope)).toBe(true);
      expect(isTaken(key, 'ssh', envelope)).toBe(false);
    });

    test('a key that the agent does not hold, and an agent that is not there', () => {
      const key = join(folder, 'unknown');
      run('ssh-keygen', ['-q', '-N', '', '-t', 'ed25519', '-f', key]);
      const named = ['--name', 'a/b', '--file-system', 'composefs', '--output', join(folder, 'never')];
      const words = ['sign', image, '--key', `${key}.pub`, ...named];
      expect(cfs(...words).stderr).toMatch(/ssh-agent does not sign with this key; ssh-add/);
      const env = { ...process.env, SSH_AUTH_SOCK: join(folder, 'absent') };
      const done = spawnSync(process.execPath, [tool, ...words], { encoding: 'utf8', env });
      expect(done.stderr).toMatch(/ssh-agent at .*\/absent cannot be asked: no such file/);
      expect(existsSync(join(folder, 'never'))).toBe(false);
    });

    const lies: readonly (readonly [string, Buffer, RegExp])[] = [
      ['another signature', signReply('ssh-ed25519', Buffer.alloc(64)), /does not verify by its key/],
      ['a length beyond all limits', Buffer.from('7fffffff0e', 'hex'), /2147483647 bytes/],
      ['another message', Buffer.from('0000000106', 'hex'), /something else than a signature/],
      ['half of one', Buffer.from('000000100e00', 'hex'), /ended the connection/],
      ['nothing', Buffer.alloc(0), /ended the connection/],
    ];

    test.each(lies)('an agent that answers with %s is not believed', async (_what, answer, said) => {
      const path = join(folder, `liar-${lies.findIndex(([, bytes]) => bytes === answer)}`);
      const server: Server = createServer((connection) => {
        connection.on('error', () => undefined);
        connection.once('data', () => connection.end(answer));
      });
      await new Promise<void>((done) => server.listen(path, done));
      const key = join(folder, 'ed25519.pub');
      const words = [tool, 'sign', image, '--key', key, '--format', 'ssh', '--output', join(folder, 'lie')];
      const child = spawn(process.execPath, words, { env: { ...process.env, SSH_AUTH_SOCK: path } });
      let errors = '';
      child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
      expect(await new Promise((done) => child.once('close', done))).toBe(1);
      expect(errors).toMatch(said);
      expect(existsSync(join(folder, 'lie'))).toBe(false);
      server.close();
    });

    test('a passphrase is asked for on the terminal, and not shown', () => {
      const key = join(folder, 'locked');
      writeFileSync(join(folder, 'phrase'), 'open sesame\n');
      cfs('keygen', '--output', key, '--passphrase-file', join(folder, 'phrase'));
      const output = join(folder, 'typed.sig');
      const sign = [
        process.execPath,
        tool,
        'sign',
        image,
        '--key',
        key,
        '--format',
        'ssh',
        '--output',
        output,
      ];
      const type = (keys: string): ReturnType<typeof run> =>
        run('python3', ['-c', onTerminal, keys, ...sign]);
      const wrong = type('open barley\\r');
      expect(wrong.status).toBe(1);
      expect(wrong.stdout).toMatch(/the passphrase is not the right one/);
      expect(type('\\x03').stdout).toMatch(/no passphrase was given/);
      expect(existsSync(output)).toBe(false);
      // Ctrl-U takes the line back, and backspace a letter.
      const typed = type('nonsense\\x15open sesamex\\x7f\\r');
      expect(typed.stdout).toContain(`Passphrase of ${key}: `);
      expect(typed.stdout).not.toMatch(/sesame|nonsense/);
      expect(typed.status).toBe(0);
      expect(isTaken(`${key}.pub`, 'ssh', output)).toBe(true);
      expect(run(sign[0] ?? '', sign.slice(1)).stderr).toMatch(/exists already/);
    });
  },
);
