import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { presentFileSystems } from '../support/file-systems.ts';
import { isRoot, needs } from '../support/needs.ts';
import { sid, sidMissing } from '../support/sid.ts';

const checkout = resolve(import.meta.dirname, '../..');

function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** Runs a program of ours, which has to succeed. */
function ctl(...parameters: string[]): string {
  const result = spawnSync(process.execPath, [join(checkout, 'dist/cli/cfs-mountctl.cjs'), ...parameters], {
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(result.stderr);
  return result.stdout.trim();
}

const programs = [
  ...['unshare', 'setpriv', 'busybox', 'bwrap', 'podman', 'python3', 'crun'],
  ...['mkfs.erofs', 'mksquashfs', 'mkfs.ext4', 'mkfs.btrfs'],
];
const missing = programs.filter((program) => !has(program));

describe.skipIf(
  needs('interop', isRoot && missing.length === 0, `root is needed, and: ${missing.join(' ')}`),
)('examples, as user 1000 with subordinate IDs', () => {
  let place: Place;
  let host: Host;

  beforeAll(async () => {
    place = makePlace('examples');
    const { folder } = place;
    const images = join(folder, 'images');
    const tree = join(folder, 'tree');
    for (const path of [
      'bin',
      'dev',
      'etc',
      'images',
      'mnt',
      'lib',
      'lib64',
      'proc',
      'run',
      'sys',
      'tmp',
      'usr',
    ]) {
      mkdirSync(join(tree, path), { recursive: true });
    }
    const made = spawnSync('sh', [
      '-euc',
      'cp "$(command -v busybox)" "$1/bin/busybox"; for name in sh cat id ls touch echo; do ln -s busybox "$1/bin/$name"; done; chmod 1777 "$1/tmp"',
      'sh',
      tree,
    ]);
    if (made.status !== 0) throw new Error(made.stderr.toString());
    mkdirSync(images);
    ctl('keygen', '--output', join(folder, 'key'));
    const image = join(images, 'tools.cfs');
    ctl('build', tree, '--store', join(folder, 'objects'), '--output', image);
    ctl('sign', image, '--key', join(folder, 'key'), '--name', 'example/tools', '--version', '1');
    // A copy outside of the image directories: a file that the client hands over.
    cpSync(image, join(folder, 'tools.cfs'));
    cpSync(`${image}.sig`, join(folder, 'tools.cfs.sig'));
    host = await Host.start({
      folder,
      policy: {
        '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${images}"
[[stores]]
name = "objects"
path = "${folder}/objects"
verity = "trusted"
[[rules]]
name = "signed"
users = ["1000"]
images = ["example/**"]
signed-by = ["site"]
stores = ["objects"]
verity = "if-present"
file-systems = ["composefs", "erofs", "squashfs", "ext4", "btrfs", "ddi"]
unscanned = true
`,
      },
      keys: { 'site.pub': spawnSync('cat', [join(folder, 'key.pub')], { encoding: 'utf8' }).stdout },
    });
  });

  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  /** Runs an example as the rootless user. */
  function example(name: string, ...parameters: string[]): ReturnType<typeof asUser> {
    return asUser(`../project/examples/${name}`, ...parameters);
  }

  function asUser(...command: string[]): { status: number | null; output: string; errors: string } {
    const folder = mkdtempSync(join(place.folder, 'user-'));
    try {
      const result = spawnSync(
        resolve(checkout, 'test/support/as-user.sh'),
        [folder, process.execPath, ...command],
        { encoding: 'utf8', timeout: 120_000, env: { ...process.env, CFS_SOCKET: host.socketPath } },
      );
      return { status: result.status, output: result.stdout, errors: result.stderr };
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test.each(['name:tools', 'file'])('unshare(1), %s', (what) => {
    const image = what === 'file' ? join(place.folder, 'tools.cfs') : what;
    const { status, output, errors } = example(
      'unshare/run.sh',
      image,
      '/bin/sh',
      '-c',
      'id -u; ls /bin/busybox',
    );
    expect(errors).toBe('');
    expect(output).toBe('0\n/bin/busybox\n');
    expect(status).toBe(0);
  });

  const types = ['erofs', 'squashfs', 'ext4', ...presentFileSystems(['btrfs'])];
  const repart = sid('systemd-repart');
  const made = needs('interop', repart !== undefined, sidMissing) ? types : [...types, 'ddi'];
  test.each(made)('%s: made, signed, mounted, written over', (type) => {
    const key = join(place.folder, 'readable.key');
    cpSync(join(place.folder, 'key'), key);
    chmodSync(key, 0o644);
    const tree = join(place.folder, 'small');
    mkdirSync(join(tree, 'folder'), { recursive: true });
    writeFileSync(join(tree, 'hello'), 'hello\n');
    const programs = join(place.folder, 'programs');
    mkdirSync(programs, { recursive: true });
    if (repart !== undefined)
      writeFileSync(join(programs, 'systemd-repart'), `#!/bin/sh\nexec ${repart.join(' ')} "$@"\n`, {
        mode: 0o755,
      });
    // The tree is the user's own, whose files can be anybody's in the image.
    spawnSync('chown', ['-R', '1000:1000', tree]);
    const script = '../project/examples/file-systems/run.sh';
    const path = 'PATH="$0:$PATH"; exec "$@"';
    const { status, output, errors } = asUser('sh', '-c', path, programs, script, tree, key, type, '.');
    const [names, shown] = [output.split('\n').slice(0, -2), output.split('\n').at(-2)];
    expect(names, errors).toEqual(['folder', 'hello', ...(type === 'ext4' ? ['lost+found'] : []), 'written']);
    // What the kernel mounted of a disk image is its root partition.
    const fileSystem = type === 'ddi' ? 'squashfs' : type;
    expect(shown).toMatch(new RegExp(`^${fileSystem} sha256:[0-9a-f]{64}$`));
    expect(status).toBe(0);
  });

  test('bubblewrap', () => {
    const { status, output, errors } = example(
      'bubblewrap/run.sh',
      'name:tools',
      '/bin/sh',
      '-c',
      'ls /bin/busybox; touch /x || echo read-only',
    );
    expect(output).toBe('/bin/busybox\nread-only\n');
    expect(errors).toContain('Read-only file system');
    expect(status).toBe(0);
  });

  test('rootless podman: a user who is not root inside writes a file', () => {
    const { status, output, errors } = example(
      'podman/run.sh',
      'name:tools',
      '/bin/sh',
      '-c',
      'id -u; echo written > /tmp/file; cat /tmp/file',
    );
    expect(output, errors).toBe('1000\nwritten\n');
    expect(status).toBe(0);
  });

  test('a container within a container, through the bound folder of the socket', () => {
    const { status, output, errors } = example(
      'nested/run.sh',
      'name:tools',
      'name:tools',
      '/bin/sh',
      '-c',
      'id -u; ls /bin/busybox',
    );
    expect(output, errors).toBe('0\n/bin/busybox\n');
    expect(status).toBe(0);
  });

  test.each(['name:tools', 'file'])('the client in plain Python, %s', (what) => {
    const image = what === 'file' ? join(place.folder, 'tools.cfs') : what;
    const { status, output, errors } = asUser(
      ...[
        'unshare',
        '--user',
        '--map-root-user',
        '--mount',
        'python3',
        '../project/examples/python/cfs-mount.py',
      ],
      ...['--socket', host.socketPath, '--chroot', image, '/mnt', '/bin/sh', '-c', 'id -u; ls /bin/busybox'],
    );
    expect(errors).toContain('"rule": "signed"');
    expect(output).toBe('0\n/bin/busybox\n');
    expect(status).toBe(0);
  });
});
