#!/usr/bin/env node
/**
 * The main job from end to end, on programs of this machine, in a private folder and a private mount namespace: a key
 * and a policy are made, an image is built and signed, the daemon runs, and a user without privileges mounts the
 * image in a container of their own; then what must be refused is refused. Nothing is left behind.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { openFile } from '../sys/file.ts';
import { enableVerity } from '../sys/verity.ts';
import { mustRun, own, run, startDaemon, type Installation, type Outcome } from './programs.ts';
import { copyPrograms } from './tree.ts';

/** The user without privileges. */
const user = 1000;
const insideVariable = 'CFS_DEMO_FOLDER';
const name = 'registry.example.org/demo/tools';

let since = performance.now();

/** Prints a step that is done, and what it took since the last one. */
function step(text: string, details = ''): void {
  const now = performance.now();
  process.stdout.write(`${(now - since).toFixed(0).padStart(6)} ms  ${text}\n`);
  for (const line of details.split('\n').filter((line) => line !== ''))
    process.stdout.write(`           | ${line}\n`);
  since = performance.now();
}

/** Whether files in `folder` can have fs-verity enabled (the kernel and the filesystem decide). */
function hasVerity(folder: string): boolean {
  const path = join(folder, 'verity-probe');
  writeFileSync(path, 'probe');
  using file = openFile(path);
  try {
    return enableVerity(file.number);
  } finally {
    rmSync(path);
  }
}

function policyOf(folder: string, publicKey: string, verity: boolean): string {
  return `
[[keys]]
id = "demo"
file = "${publicKey}"

[[stores]]
name = "demo"
path = "${folder}/objects"
verity = "${verity ? 'require' : 'trusted'}"

[[image-directories]]
path = "${folder}/images"

[[rules]]
name = "signed demo images for everyone"
users = ["*"]
images = ["registry.example.org/demo/**"]
signed-by = ["demo"]
stores = ["demo"]
verity = "${verity ? 'require' : 'if-present'}"
rollback-protection = true
`;
}

/** What runs in the container: a program from the image, then attempts on the mount's attributes. */
function containerScript(installation: Installation, socket: string): string {
  const mount = own(installation, 'mount.cfs-delegated').join(' ');
  return `
set -u
mount --make-rprivate /
mkdir -p "$2"
${mount} "$1" "$2" -o socket=${socket} || exit $?
grep " $2 " /proc/self/mountinfo
chroot "$2" /bin/sh -c 'echo "$(cat /etc/greeting) I am $(id -u) here."'
for attribute in rw dev suid; do
  if mount -o remount,bind,$attribute "$2" 2>/dev/null; then echo "$attribute: set, which must not be"; exit 1
  else echo "$attribute: refused by the kernel"; fi
done
`;
}

async function inside(folder: string): Promise<void> {
  const installation: Installation = { node: join(folder, 'node'), project: join(folder, 'project') };
  const ctl = (...parameters: string[]): string => mustRun(own(installation, 'cfs-mountctl', ...parameters));
  const at = (path: string): string => join(folder, path);
  const socket = at('run/io.cfsmountd.MountDelegation');
  const verity = hasVerity(folder);

  for (const path of ['policy', 'policy/policy.d', 'policy/keys.d', 'images', 'state', 'run', 'tree'])
    mkdirSync(at(path));
  mkdirSync(at('user'));
  const programs = copyPrograms(at('tree'));
  step(`copied programs of this machine: ${programs.join(' ')}`);

  ctl('keygen', '--output', at('demo.key'));
  ctl('keygen', '--output', at('stranger.key'));
  copyFileSync(at('demo.key.pub'), at('policy/keys.d/demo.pub'));
  writeFileSync(at('policy/policy.d/10-demo.toml'), policyOf(folder, 'demo.pub', verity));
  step(
    'made a key and a policy that trusts it',
    verity ? '' : 'no fs-verity here: a store that only root can write is trusted',
  );

  const image = at('images/tools.cfs');
  const digest = ctl('build', at('tree'), '--store', at('objects'), '--output', image);
  step('built an image', digest);
  ctl('sign', image, '--key', at('demo.key'), '--name', name, '--version', '2');
  step(`signed it as ${name}, version 2`);

  const daemon = await startDaemon(
    own(installation, 'cfs-mountd', '--socket', socket, '--policy', at('policy'), '--state', at('state')),
    socket,
  );
  try {
    step('started the daemon');
    const enter = (target: string): Outcome =>
      run(
        [
          'unshare',
          '--user',
          '--map-root-user',
          '--mount',
          '--',
          'sh',
          '-c',
          containerScript(installation, socket),
          'sh',
          target,
          '/tmp',
        ],
        user,
      );
    const granted = enter('name:tools');
    if (granted.status !== 0) throw new Error(granted.errors || granted.output);
    step(
      `user ${user} mounted it by name in a container of their own, and ran a program from it`,
      granted.output,
    );

    const copies = at('user');
    const variant = (file: string, sign?: () => void): string => {
      const path = join(copies, file);
      copyFileSync(image, path);
      sign?.();
      return path;
    };
    const signed = (path: string, ...parameters: string[]): string => {
      ctl('sign', path, '--name', name, ...parameters);
      return path;
    };
    const key = ['--key', at('demo.key')];

    const tampered = variant('tampered.cfs');
    const bytes = readFileSync(tampered);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(tampered, bytes);
    copyFileSync(`${image}.sig`, `${tampered}.sig`);

    const refusals: [string, string, string][] = [
      ['a tampered image', tampered, 'SignatureInvalid'],
      ['an unsigned image', variant('unsigned.cfs'), 'NotSigned'],
      [
        'an untrusted key',
        signed(variant('stranger.cfs'), '--key', at('stranger.key'), '--version', '2'),
        'KeyNotTrusted',
      ],
      [
        'an expired signature',
        signed(variant('expired.cfs'), ...key, '--version', '2', '--expires', '2020-01-01T00:00:00Z'),
        'Expired',
      ],
      ['an older version', signed(variant('older.cfs'), ...key, '--version', '1'), 'RolledBack'],
    ];
    step('prepared what must be refused');
    for (const [what, path, error] of refusals) {
      const refused = enter(path);
      if (refused.status === 0 || !refused.errors.includes(error)) {
        throw new Error(`${what} was not refused with ${error}: ${refused.errors || refused.output}`);
      }
      step(`refused: ${what}`, refused.errors);
    }
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes('sha256:'));
    if (mounts.length > 0) throw new Error(`mounts are left in the host's namespace: ${mounts.join('\n')}`);
  } finally {
    const status = await daemon.stop();
    if (status !== 0) throw new Error(`the daemon ended with ${status}: ${daemon.log.join('\n')}`);
  }
  step('stopped the daemon');
}

/** Makes the private folder, and runs this program again in a mount namespace of its own; returns the exit status. */
function outside(): number {
  if (process.getuid?.() !== 0) {
    process.stderr.write(
      'demo: mounting needs root: run `npm run demo` as root, in a container or a virtual machine if you like\n',
    );
    return 1;
  }
  // Not on tmpfs, as /tmp often is: the kernel mounts no image that lies there.
  const folder = mkdtempSync(join(process.env['TMPDIR'] ?? '/var/tmp', 'cfs-demo-'));
  try {
    chmodSync(folder, 0o755);
    mkdirSync(join(folder, 'project'));
    writeFileSync(join(folder, 'node'), '');
    // The checkout may lie where the user without privileges cannot read: it is shown in the private folder.
    const script = 'mount --bind "$1" "$3/project" && mount --bind "$2" "$3/node" && exec "$2" "$4"';
    const project = resolve(import.meta.dirname, '../..');
    const result = spawnSync(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        '--',
        'sh',
        '-c',
        script,
        'sh',
        project,
        process.execPath,
        folder,
        import.meta.filename,
      ],
      { stdio: 'inherit', env: { ...process.env, [insideVariable]: folder } },
    );
    return result.status ?? 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const folder = process.env[insideVariable];
const start = performance.now();
try {
  if (folder === undefined) {
    process.exitCode = outside();
  } else {
    await inside(folder);
    process.stdout.write(`All as it should be, in ${((performance.now() - start) / 1000).toFixed(1)} s.\n`);
  }
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
