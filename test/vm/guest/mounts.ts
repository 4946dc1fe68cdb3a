// Mounts every kind of image, or those that the arguments name, from every source at every level on the running kernel, and
// prints a Finding per line.
// Runs as root inside the machines that the tests of test/vm start, with TMPDIR on an ext4 that has fs-verity.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { attachMount, connect, type MountDelegationClient } from '../../../src/client/client.ts';
import type { MountOptions } from '../../../src/client/options.ts';
import { buildImage } from '../../../src/store/build.ts';
import { objectPath, ObjectStore } from '../../../src/store/objects.ts';
import { isSyscallError } from '../../../src/sys/errno.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { addSeals, createMemfd, openFile, writeAll } from '../../../src/sys/file.ts';
import {
  fsconfigCreate,
  fsconfigString,
  fsmount,
  fsopen,
  moveMount,
  umountDetach,
} from '../../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../../src/sys/path.ts';
import { enableVerity } from '../../../src/sys/verity.ts';
import { parseCertificate } from '../../../src/trust/certificate.ts';
import { VarlinkError } from '../../../src/varlink/error.ts';
import { verityDigest } from '../../../src/verity/verity.ts';
import { makeCertificate, newKey, pemOf } from '../../support/certificates.ts';
import { buildFileSystem, builtFileSystems } from '../../support/file-systems.ts';
import { signedDisk } from '../../support/verity-partitions.ts';
import { loopFiles } from '../../support/loop-files.ts';
import { diskImages, images, levelsOf, sources, type CellFinding, type Finding } from './findings.ts';

type Image = CellFinding['image'];
type Source = CellFinding['source'];
type Level = CellFinding['level'];

const checkout = process.cwd();
const program = Buffer.from('what the image runs\n'.repeat(1000));
const swapped = Buffer.from('what was verified\n'.repeat(1000));
const decoy = Buffer.from('what was tampered\n'.repeat(1000));

const policy = (folder: string): string => `
[[stores]]
name = "checked"
path = "${folder}/checked"
verity = "require"

[[stores]]
name = "trusted"
path = "${folder}/trusted"
verity = "trusted"

[[image-directories]]
path = "${folder}/images"

[[rules]]
name = "everything"
users = ["*"]
unsigned = true
file-systems = ["composefs", "erofs", "squashfs", "ext4", "xfs", "btrfs", "ddi"]
unscanned = true
stores = ["checked", "trusted"]
verity = "never"
attributes = ["ro", "nosuid", "nodev", "noexec"]

[[keys]]
id = "vendor"
file = "vendor.crt"

[[rules]]
name = "signed root hashes"
signed-by = ["vendor"]
formats = ["dmverity-pkcs7"]
file-systems = ["ddi"]
unscanned = true
attributes = ["ro", "nosuid", "nodev", "noexec"]
`;

function print(finding: Finding): void {
  process.stdout.write(`${JSON.stringify(finding)}\n`);
}

/** Builds an image of each kind, the files of the composefs one in both stores, and the policy. */
async function furnish(folder: string): Promise<void> {
  for (const name of ['tree', 'checked', 'trusted', 'images', 'verity', 'at', 'policy/policy.d'])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'policy/policy.d/50-test.toml'), policy(folder));
  writeFileSync(join(folder, 'tree/hello'), 'hello\n');
  for (const fileSystem of builtFileSystems.filter(isChosen))
    buildFileSystem(fileSystem, join(folder, 'tree'), imagePath(folder, fileSystem));
  furnishDisks(folder);
  const inline = await buildImage({
    source: join(folder, 'tree'),
    store: ObjectStore.open(join(folder, 'checked')),
    minVersion: 1,
    maxVersion: 1,
  });
  writeFileSync(imagePath(folder, 'inline'), inline.image);
  writeFileSync(join(folder, 'tree/program'), program);
  writeFileSync(join(folder, 'tree/swapped'), swapped);
  for (const name of ['checked', 'trusted']) {
    const store = ObjectStore.open(join(folder, name));
    const options = { source: join(folder, 'tree'), store, minVersion: 1, maxVersion: 1 } as const;
    const built = await buildImage(options);
    writeFileSync(imagePath(folder, 'composefs'), built.image);
  }
  for (const image of images.filter(isChosen)) {
    const path = join(folder, 'verity', image);
    writeFileSync(path, readFileSync(imagePath(folder, image)));
    using file = openFile(path);
    if (!enableVerity(file.number)) throw new Error('no fs-verity here');
  }
}

/** Disk images for this machine's architecture, squashfs in root; and the certificate that signed their root hash. */
function furnishDisks(folder: string): void {
  const content = join(folder, 'root.squashfs');
  buildFileSystem('squashfs', join(folder, 'tree'), content);
  const key = newKey();
  const certificate = parseCertificate(
    makeCertificate(key, key, { notAfter: new Date('2099-01-01T00:00:00Z') }),
  );
  mkdirSync(join(folder, 'policy/keys.d'));
  writeFileSync(join(folder, 'policy/keys.d/vendor.crt'), pemOf(certificate.der));
  const image = signedDisk(readFileSync(content), { key, certificate });
  for (const name of diskImages) writeFileSync(imagePath(folder, name), image);
}

function imagePath(folder: string, image: Image): string {
  return join(folder, 'images', `${image}.${isComposefs(image) ? 'cfs' : 'raw'}`);
}

function isComposefs(image: Image): image is 'inline' | 'composefs' {
  return image === 'inline' || image === 'composefs';
}

function startService(folder: string): ChildProcess {
  const parameters = ['--socket', socketPath(folder), '--policy', join(folder, 'policy')];
  return spawn(
    process.execPath,
    ['dist/cli/cfs-mountd.cjs', ...parameters, '--state', join(folder, 'state'), '--log-level', 'fatal'],
    { cwd: checkout, stdio: ['ignore', 'ignore', 'inherit'] },
  );
}

function socketPath(folder: string): string {
  return join(folder, 'run/socket');
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 300_000; !condition();) {
    if (Date.now() > end) throw new Error(`waited for five minutes: ${what}`);
    await wait(20);
  }
}

/** The image as its source has it; a descriptor belongs to the caller. */
function openSource(folder: string, image: Image, source: Source): MountOptions['image'] | OwnedFd {
  switch (source) {
    case 'installed':
      return { name: image };
    case 'memfd': {
      using memfd = createMemfd('image');
      writeAll(memfd.number, readFileSync(imagePath(folder, image)));
      addSeals(memfd.number, ['write', 'shrink', 'grow']);
      return memfd.moved();
    }
    case 'verity file':
      return openFile(join(folder, 'verity', image));
  }
}

async function mount(
  client: MountDelegationClient,
  folder: string,
  image: Image,
  source: Source,
  level: Level,
): Promise<OwnedFd> {
  const opened = openSource(folder, image, source);
  try {
    const stores = isComposefs(image) ? [{ name: storeOf(level) }] : [];
    const given = opened instanceof OwnedFd ? { fd: opened.number } : opened;
    const fileSystem = isComposefs(image) ? 'composefs' : image === 'signed-ddi' ? 'ddi' : image;
    const allowUnsigned = image !== 'signed-ddi';
    const options = { image: given, fileSystem, verity: level, allowUnsigned, stores } as const;
    return (await client.mount(options)).mount;
  } finally {
    if (opened instanceof OwnedFd) opened.close();
  }
}

function storeOf(level: Level): string {
  return level === 'require' ? 'checked' : 'trusted';
}

function outcomeOf(error: unknown): string {
  if (!(error instanceof VarlinkError)) throw error;
  const reasons = Object.values(error.parameters).filter((value) => typeof value === 'string');
  return [error.name.split('.').at(-1), ...reasons].join(': ');
}

async function tryCell(
  client: MountDelegationClient,
  folder: string,
  image: Image,
  source: Source,
  level: Level,
): Promise<CellFinding> {
  const cell = { finding: 'cell', image, source, level } as const;
  let made: OwnedFd;
  try {
    made = await mount(client, folder, image, source, level);
  } catch (error) {
    return { ...cell, outcome: outcomeOf(error) };
  }
  using mounted = made;
  const root = descriptorPath(mounted.number);
  if (readFileSync(join(root, 'hello'), 'utf8') !== 'hello\n') return { ...cell, outcome: 'wrong content' };
  if (image !== 'composefs') return { ...cell, outcome: 'mounted' };
  if (!readFileSync(join(root, 'program')).equals(program)) return { ...cell, outcome: 'wrong content' };
  return { ...cell, outcome: 'mounted', swapped: readSwapped(root, join(folder, storeOf(level))) };
}

/** What is read of a file that has not been opened yet once its object is another file of the same name. */
function readSwapped(root: string, store: string): string {
  const object = join(store, objectPath(verityDigest(swapped)));
  renameSync(object, `${object}.kept`);
  try {
    writeFileSync(object, decoy, { mode: 0o644 });
    return readFileSync(join(root, 'swapped')).equals(decoy) ? 'opened' : 'unchanged';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    renameSync(`${object}.kept`, object);
  }
}

/** Lets a receiver with a user namespace of its own try to clear attributes, and lays an overlay over another mount. */
async function tryReceiver(client: MountDelegationClient, folder: string, image: Image): Promise<void> {
  const make = (): Promise<OwnedFd> => mount(client, folder, image, 'installed', 'ifPresent');
  const at = join(folder, 'at');
  using mounted = await make();
  const script = resolve(checkout, 'test/kernel/sys-receiver.py');
  const receiver = spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'python3', script, at], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit', mounted.number],
  });
  const lines = receiver.stdout.trim().split('\n');
  if (receiver.status !== 0 || lines.at(-1) !== 'hello') throw new Error(`the receiver:\n${receiver.stdout}`);
  const attempts = lines.slice(0, -1);
  using lower = await make();
  attachMount(lower, at);
  const overlay = layOverlay(folder, at);
  umountDetach(at);
  const refused = attempts.filter((line) => line.endsWith(' EPERM')).length;
  print({ finding: 'receiver', image, attempts: attempts.length, refused, overlay });
}

function layOverlay(folder: string, lower: string): boolean {
  const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => join(folder, name));
  if (upper === undefined || work === undefined || merged === undefined) return false;
  for (const path of [upper, work, merged]) mkdirSync(path, { recursive: true });
  using context = fsopen('overlay');
  try {
    fsconfigString(context.number, 'lowerdir', lower);
    fsconfigString(context.number, 'upperdir', upper);
    fsconfigString(context.number, 'workdir', work);
    fsconfigCreate(context.number);
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
  using overlay = fsmount(context.number, 0);
  moveMount(overlay.number, merged);
  const shown = readFileSync(join(merged, 'hello'), 'utf8') === 'hello\n';
  umountDetach(merged);
  return shown;
}

function isChosen(image: Image): boolean {
  const chosen = process.argv.slice(2);
  return chosen.length === 0 || chosen.includes(image);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'mounts-'));
  chmodSync(folder, 0o755);
  // The guest's own, such as that of its disk.
  const before = new Set(loopFiles());
  await furnish(folder);
  const service = startService(folder);
  const ended = new Promise<number | null>((done) => service.once('close', done));
  await until('the service', () => existsSync(socketPath(folder)) || service.exitCode !== null);
  {
    using client = await connect(socketPath(folder));
    const { kernel } = await client.describe();
    print({ finding: 'kernel', release: release(), features: kernel });
    const works = new Set<Image>();
    for (const image of images.filter(isChosen))
      for (const source of sources)
        for (const level of levelsOf(image)) {
          const cell = await tryCell(client, folder, image, source, level);
          print(cell);
          if (cell.outcome === 'mounted') works.add(image);
        }
    for (const image of works) await tryReceiver(client, folder, image);
  }
  service.kill('SIGTERM');
  const code = await ended;
  if (code !== 0) throw new Error(`the service ended with ${code ?? 'a signal'}`);
  // Superblocks go a while after the last of their mounts.
  const left = (): string[] => loopFiles().filter((file) => !before.has(file));
  await until('loop devices are free', () => left().length === 0).catch(() => undefined);
  print({ finding: 'left', loopFiles: left() });
}

await main();
