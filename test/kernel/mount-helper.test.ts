import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Place } from '../support/hosting.ts';
import { digestOf, Host, makePlace, Signer, smallImage, writePolicy } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { erofsImage, hasProgram } from './sys-room.ts';

const programs = resolve(import.meta.dirname, '../../dist/cli');

/** What a program did. */
interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(words: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ran> {
  const [program = '', ...rest] = words;
  const child = spawn(program, rest, {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (chunk: Buffer) => {
      output[stream] += chunk.toString();
    });
  }
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code) => {
      done({ code, ...output });
    });
  });
}

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('mounting by command', () => {
  let place: Place;
  let host: Host;
  let environment: Record<string, string>;
  let made = 0;
  const signer = new Signer();
  const stranger = new Signer();
  const image = smallImage({ hello: 'hello from the image\n' });
  const digest = digestOf(image);

  const policy = (folder: string): string => `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder}/images"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
verity = "never"
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
file-systems = ["composefs", "erofs"]
verity = "never"
`;

  beforeAll(async () => {
    place = makePlace('helper');
    const { folder } = place;
    for (const name of ['images', 'mnt', 'other']) mkdirSync(join(folder, name));
    for (const name of ['signed.cfs', 'images/installed.cfs', 'unsigned.cfs', 'foreign.cfs', 'a,b.cfs']) {
      writeFileSync(join(folder, name), image);
    }
    for (const name of ['signed.cfs', 'images/installed.cfs']) {
      writeFileSync(join(folder, `${name}.sig`), signer.sign(digest, 'example/hello', { version: 1 }));
    }
    writeFileSync(join(folder, 'foreign.cfs.sig'), stranger.sign(digest, 'example/hello'));
    writeFileSync(join(folder, 's,1.sig'), signer.sign(digest, 'example/hello'));
    host = await Host.start({
      folder,
      policy: { '10.toml': policy(folder) },
      keys: { 'site.pub': signer.publicPem },
    });
    environment = {
      CFS_SOCKET: host.socketPath,
      NODE: process.execPath,
      PROGRAMS: programs,
      FOLDER: folder,
      DIGEST: digest,
    };
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  const prelude = `
cd "$FOLDER"
helper() { "$NODE" "$PROGRAMS/mount.cfs-delegated.cjs" "$@"; }
mountctl() { "$NODE" "$PROGRAMS/cfs-mountctl.cjs" "$@"; }
here="socket=$CFS_SOCKET"
mounts() { grep -c " $FOLDER/mnt " /proc/self/mountinfo || true; }
`;

  /** Runs a script as root, in a mount namespace of its own. */
  function asRoot(script: string): Promise<Ran> {
    const words = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', prelude + script];
    return run(words, environment);
  }

  /** Runs a script as user 1000, who finds the programs on PATH and the helper in /sbin. */
  function asUser(script: string): Promise<Ran> {
    const folder = join(place.folder, `user${made++}`);
    mkdirSync(folder);
    const asUserScript = resolve(import.meta.dirname, '../support/as-user.sh');
    const settings = Object.entries({ FOLDER: place.folder, DIGEST: digest }).map(
      ([name, value]) => `${name}=${value}`,
    );
    const words = [asUserScript, folder, process.execPath, 'env', ...settings, 'sh', '-c'];
    return run([...words, `here="socket=$CFS_SOCKET"\ncd "$FOLDER"\n${script}`], environment);
  }

  test('an image is mounted, found mounted, and unmounted', async () => {
    const ran = await asRoot(`
set -e
helper signed.cfs mnt -v -o $here,noexec
cat mnt/hello
grep " $FOLDER/mnt " /proc/self/mountinfo
helper signed.cfs mnt -v -o $here
helper name:installed mnt -v -o $here
helper $DIGEST mnt -v -o $here
mounts
mountctl umount mnt
mounts`);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const lines = ran.stdout.split('\n');
    const { folder } = place;
    expect(lines[0]).toBe(
      `mount.cfs-delegated: ${digest} (example/hello, version 1) mounted on mnt by the rule "signed", signed by site`,
    );
    expect(lines[1]).toBe('hello from the image');
    expect(lines[2]).toMatch(
      new RegExp(` / ${folder}/mnt ro,nosuid,nodev,noexec,.* - (overlay|erofs) ${digest} `),
    );
    for (const line of lines.slice(3, 6)) {
      expect(line).toBe(`mount.cfs-delegated: ${digest} is already mounted on mnt`);
    }
    expect(lines.slice(6)).toEqual(['1', '0', '']);
  });

  test.skipIf(needs('kernel', hasProgram('mkfs.erofs'), 'mkfs.erofs is not there'))(
    'a plain EROFS image is known by its digest, too',
    async () => {
      const { folder } = place;
      const plain = erofsImage(mkdtempSync(join(folder, 'erofs-')));
      writeFileSync(join(folder, 'plain.erofs'), plain);
      const options = '-o $here,unsigned,type=erofs';
      const ran = await asRoot(`helper plain.erofs mnt ${options}
grep " $FOLDER/mnt " /proc/self/mountinfo
helper plain.erofs mnt -v ${options}
mountctl umount mnt
mounts`);
      expect(ran).toMatchObject({ code: 0, stderr: '' });
      const [shown, again, ...rest] = ran.stdout.split('\n');
      expect(shown).toContain(` - erofs ${digestOf(plain)} `);
      expect(again).toBe(`mount.cfs-delegated: ${digestOf(plain)} is already mounted on mnt`);
      expect(rest).toEqual(['0', '']);
    },
  );

  test.each<[string, string, number, RegExp]>([
    ['no arguments', 'helper', 1, /^mount\.cfs-delegated: IMAGE and DIR are needed; try --help\n$/],
    ['an unknown option', 'helper signed.cfs mnt -o $here,remount', 1, /: unknown option "remount"\n$/],
    [
      'no signature',
      'helper unsigned.cfs mnt -o $here',
      32,
      /^mount\.cfs-delegated: unsigned\.cfs: NotSigned: .*\n$/,
    ],
    [
      'a foreign key',
      'helper foreign.cfs mnt -o $here',
      32,
      /: foreign\.cfs: KeyNotTrusted: .* signed by [0-9a-f]{64} \(not a key of this policy\); /,
    ],
    [
      'another digest',
      'helper signed.cfs mnt -o $here,verity_check=0,digest=' + '0'.repeat(64),
      32,
      /: DigestMismatch: /,
    ],
    [
      'another filesystem',
      'helper signed.cfs mnt -t cfs-delegated.erofs -o $here',
      32,
      /: IncompatibleImage: /,
    ],
    [
      'a store that the rule does not take',
      'mkdir -p other; helper signed.cfs mnt -o $here,basedir=other',
      32,
      /: DeniedByPolicy: /,
    ],
    ['no such file', 'helper none.cfs mnt -o $here', 32, /: none\.cfs: no such file or directory\n$/],
    [
      'no such signature',
      'helper signed.cfs mnt -o $here,signature=x',
      32,
      /: x: no such file or directory\n$/,
    ],
    ['no such image', 'helper name:none mnt -o $here', 32, /: name:none: ImageNotFound: /],
    ['no such directory', 'helper signed.cfs none -o $here', 32, /\/none: no such file or directory\n$/],
    ['a directory for an image', 'helper mnt mnt -o $here', 32, /: mnt is not a regular file\n$/],
    [
      'no service',
      'helper signed.cfs mnt -o socket=/nonexistent/socket',
      2,
      /no such socket; is cfs-mountd running\?\n$/,
    ],
    ['nothing to unmount', 'mountctl umount mnt', 1, /^cfs-mountctl: mnt: nothing is mounted there\n$/],
    ['a foreign mount', 'mountctl umount /proc', 1, /: \/proc: not a mount of an image \(proc of /],
  ])('%s', async (_, command, code, message) => {
    const ran = await asRoot(`${command}; code=$?; mounts; exit $code`);
    expect(ran.stderr).toMatch(message);
    expect(ran).toMatchObject({ code, stdout: '0\n' });
  });

  test('unknown options are passed over with -s, and commas are escaped', async () => {
    const ran = await asRoot(
      'helper "a,b.cfs" mnt -s -o "$here,future=1,signature=s\\,1.sig" && cat mnt/hello',
    );
    expect(ran).toEqual({ code: 0, stdout: 'hello from the image\n', stderr: '' });
  });

  test('an unsigned image, for root who asks for it', async () => {
    const ran = await asRoot('helper unsigned.cfs mnt -v -o $here,unsigned && mounts');
    expect(ran.stdout).toMatch(/mounted on mnt by the rule "unsigned for root"\n1\n$/);
  });

  test('-f asks, and mounts nothing', async () => {
    const ran = await asRoot(
      'helper signed.cfs mnt -f -v -o $here; mounts; helper foreign.cfs mnt -f -o $here; echo $?',
    );
    expect(ran.stdout).toMatch(/would be mounted on mnt by the rule "signed", signed by site\n0\n32\n$/);
    expect(ran.stderr).toMatch(/KeyNotTrusted/);
  });

  /** Starts a process in other namespaces, whose PID is $other, and ends it at the end of the script. */
  const elsewhere = (namespaces: string): string => `
fifo=$(mktemp -u "$FOLDER/ready.XXXXXX")
mkfifo "$fifo"
unshare ${namespaces} sh -c 'echo $$ > "$0"; exec sleep 600 > /dev/null 2>&1' "$fifo" 2> /dev/null & started=$!
read -r line < "$fifo"
child=$(grep -ls "^PPid:.$started$" /proc/[0-9]*/status | grep -o '[0-9]*')
other=\${child:-$started}
trap 'kill -KILL $other; wait' EXIT
`;

  test('-N attaches in the namespace of another process', async () => {
    const ran = await asRoot(`${elsewhere('--mount --propagation private')}
helper signed.cfs mnt -N $other -o $here; echo $?
grep -c " $FOLDER/mnt " /proc/$other/mountinfo
mounts
helper signed.cfs mnt -v -N /proc/$other/ns/mnt -o $here`);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe(`0\n1\n0\nmount.cfs-delegated: ${digest} is already mounted on mnt\n`);
  });

  test('-N attaches where /proc is that of other processes', async () => {
    const ran = await asRoot(`${elsewhere('--mount --propagation private --pid --fork --mount-proc')}
helper signed.cfs mnt -N $other -o $here; echo $?
helper signed.cfs mnt -v -N $other -o $here
grep -c " $FOLDER/mnt " /proc/$other/mountinfo`);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toMatch(/^0\nmount\.cfs-delegated: sha256:.* is already mounted on mnt\n1\n$/);
  });

  test('-N shows IDs as the other user namespace sees them', async () => {
    const ran = await asRoot(`${elsewhere('--user --mount')}
echo 0 100000 1000 > /proc/$other/uid_map
echo 0 100000 1000 > /proc/$other/gid_map
helper signed.cfs mnt -N $other -o $here; echo $?
nsenter -t $other -m stat -c %u:%g "$FOLDER/mnt/hello"`);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('0\n100000:100000\n');
  });

  test('cfs-mountctl mounts as the helper does', async () => {
    const ran = await asRoot(`
mountctl mount signed.cfs mnt -v -o $here
mountctl mount foreign.cfs other -o $here; echo $?
mountctl umount mnt; mounts`);
    expect(ran.stdout).toMatch(/^sha256:.* mounted on mnt by the rule "signed", signed by site\n32\n0\n$/);
    expect(ran.stderr).toMatch(/^cfs-mountctl: foreign\.cfs: KeyNotTrusted: /);
  });

  test('mount(8) finds the helper, for a user in namespaces of their own', async () => {
    const ran = await asUser(`
mkdir "$HOME/mnt"
unshare -rm sh -ec '
mount -t cfs-delegated signed.cfs "$HOME/mnt" -o "$1,nofail,x-systemd.automount"
cat "$HOME/mnt/hello"
stat -c %u "$HOME/mnt/hello"
mount -o remount,bind,suid,dev "$HOME/mnt" 2> "$HOME/errors" || echo locked
cfs-mountctl umount "$HOME/mnt"
mount -t cfs-delegated foreign.cfs "$HOME/mnt" -o "$1" || echo $?' sh "$here"`);
    expect(ran.stderr).toMatch(/KeyNotTrusted/);
    expect(ran).toMatchObject({ code: 0, stdout: 'hello from the image\n0\nlocked\n32\n' });
  });

  test('where nothing can be attached, the service is not asked', async () => {
    const asked = host.audit.length;
    const ran = await asUser(`
mount.cfs-delegated signed.cfs "$HOME" -o "$here"; echo $?
unshare -r mount.cfs-delegated signed.cfs "$HOME" -o "$here"; echo $?
cfs-mountctl umount "$HOME"; echo $?`);
    expect(ran.stdout).toBe('1\n1\n1\n');
    const advice = 'run this within "podman unshare" or "unshare -rm"\n';
    expect(ran.stderr.split(advice)).toHaveLength(3);
    expect(host.audit).toHaveLength(asked);
  });

  test('only root asks for unsigned images, and for a reload', async () => {
    const ran = await asUser(`
unshare -rm mount.cfs-delegated unsigned.cfs "$HOME" -o "$here,unsigned"; echo $?
cfs-mountctl reload --socket "$CFS_SOCKET"; echo $?`);
    expect(ran.stdout).toBe('32\n1\n');
    expect(ran.stderr).toMatch(/: unsigned\.cfs: (NotSigned|DeniedByPolicy): .*\n.*: PermissionDenied: /);
  });

  test('status and reload', async () => {
    const { folder } = place;
    const good = { '10.toml': policy(folder) };
    const keys = { 'site.pub': signer.publicPem };
    const status = await asRoot('mountctl status --socket $CFS_SOCKET');
    expect(status).toMatchObject({ code: 0, stderr: '' });
    expect(status.stdout).toMatch(/^cfs-mountd \d+\.\d+\.\d+\npolicy sha256:[0-9a-f]{64}, loaded 20/);
    const described: unknown = JSON.parse(
      (await asRoot('mountctl status --json --socket $CFS_SOCKET')).stdout,
    );
    expect(described).toMatchObject({
      fileSystems: expect.arrayContaining(['composefs', 'erofs']) as string[],
    });
    writePolicy(folder, { '10.toml': 'nonsense' }, keys);
    const refused = await asRoot('mountctl reload --socket $CFS_SOCKET');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/^cfs-mountctl: PolicyInvalid: .*10\.toml:1: /);
    const bad = await asRoot('mountctl status --socket $CFS_SOCKET');
    expect(bad.code).toBe(1);
    expect(bad.stderr).toMatch(/^cfs-mountctl: the newest policy did not load: /);
    writePolicy(folder, good, keys);
    const reloaded = await asRoot(
      'mountctl reload --socket $CFS_SOCKET && mountctl status --socket $CFS_SOCKET',
    );
    expect(reloaded.stdout).toMatch(/^policy sha256:[0-9a-f]{64} is in force\n/);
    expect(reloaded.code).toBe(0);
  });

  test('nothing is left open in the service', async () => {
    const open = (): number => readdirSync(`/proc/${host.pid}/fd`).length;
    await asRoot('helper signed.cfs mnt -o $here; helper foreign.cfs mnt -o $here');
    const before = open();
    await asRoot('helper signed.cfs mnt -o $here; helper foreign.cfs mnt -o $here; helper x mnt -o $here');
    await host.until('what was opened is closed', () => open() <= before);
  });
});
