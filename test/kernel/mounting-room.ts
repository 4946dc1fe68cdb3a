import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { digestHex, type Digest } from '../../src/base/digest.ts';
import type { Entry, RegularFile } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { Closing } from '../../src/daemon/connections/closing.ts';
import { Contents } from '../../src/daemon/images/contents.ts';
import { HandoutRecords } from '../../src/daemon/mounts/handout-records.ts';
import { Handouts } from '../../src/daemon/callers/handouts.ts';
import { Images, measureOnPool, type TakenImage } from '../../src/daemon/images/images.ts';
import { Installed } from '../../src/daemon/images/installed.ts';
import type { MountOrder } from '../../src/daemon/mounts/mount-order.ts';
import { Mounter } from '../../src/daemon/mounts/mounter.ts';
import { KeptMounts } from '../../src/daemon/mounts/kept-mounts.ts';
import { Pool, type PoolLimits } from '../../src/daemon/threads/pool.ts';
import { StoreClones } from '../../src/daemon/mounts/store-clones.ts';
import { Stores } from '../../src/daemon/mounts/stores.ts';
import { SuperblockWatches } from '../../src/daemon/callers/superblock-watches.ts';
import { Sweeper } from '../../src/daemon/mounts/sweeper.ts';
import type { Features } from '../../src/mount/features.ts';
import type { Policy, PolicyStore } from '../../src/policy/policy.ts';
import type { Constraints } from '../../src/policy/question.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { addSeals, createMemfd, openFile, writeAll } from '../../src/sys/file.ts';
import { openPidfd } from '../../src/sys/peer.ts';
import { probeFeatures } from '../../src/sys/probe.ts';
import { Stage } from '../../src/sys/stage.ts';
import { verityDigest } from '../../src/verity/verity.ts';

/** What is in the file `big` of the room's image, and in an object of its store. */
export const bigContent: string = 'content that is too long to be kept inside of the image\n'.repeat(100);

/** The daemon's mounting side in this process, with an image, a store and a folder for images. */
export interface Room {
  readonly directory: string;
  readonly imageDirectory: string;
  readonly store: PolicyStore;
  readonly image: Uint8Array;
  readonly digest: Digest;
  readonly policy: Policy;
  readonly constraints: Constraints;
  readonly features: Features;
  readonly pool: Pool;
  readonly closing: Closing;
  readonly handouts: Handouts;
  readonly sweeper: Sweeper;
  readonly contents: Contents;
  readonly installed: Installed;
  readonly images: Images;
  readonly stores: Stores;
  readonly mounter: Mounter;
  /** Undefined unless the room was opened to keep mounts, on a kernel that lets them be cloned. */
  readonly kept: KeptMounts | undefined;
  /** Whether the machine seems to be short of memory. */
  readonly memory: { short: boolean };
  /** What should never have happened. */
  readonly bugs: unknown[];
  readonly records: HandoutRecords;
  peer(user?: number): MountOrder['peer'];
  /** Mounts `image` with the room's store and constraints, or with others. */
  mount(image: TakenImage, changes?: Partial<MountOrder>): Promise<OwnedFd>;
}

const noDescriptorStore = { keep: () => undefined, drop: () => undefined };

const poolLimits: PoolLimits = {
  threads: 8,
  threadsPerUser: 2,
  lostThreads: 4,
  waitingPerUser: 16,
  stallMilliseconds: 30_000,
};

/** Opens a room, with these limits of the pool changed; it is closed after the test. `keep`: mounts are kept to be cloned. */
export function openRoom(limits: Partial<PoolLimits> = {}, keep = false): Room {
  const memory = { short: false };
  const directory = mkdtempSync(join(tmpdir(), 'cfs-mounting-'));
  onTestFinished(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  const folder = (name: string): string => {
    mkdirSync(join(directory, name));
    return join(directory, name);
  };
  const [source, imageDirectory, storePath, state] = [
    folder('source'),
    folder('images'),
    folder('store'),
    folder('state'),
  ];
  writeFileSync(join(source, 'big'), bigContent);
  writeFileSync(join(source, 'small'), 'small\n');
  const image = makeImage(storePath);
  const digest = verityDigest(image);
  const stage = Stage.open('locked');
  const features = probeFeatures({ scratchDirectory: state, image, stage });
  const bugs: unknown[] = [];
  const onBug = (error: unknown): void => void bugs.push(error);
  const closing = new Closing({ threads: 8, idleThreads: 1 }, onBug);
  const pool = new Pool({ limits: { ...poolLimits, ...limits }, closing, onBug });
  const installed = new Installed(
    { images: 16, imageBytes: 1 << 24, signatureFileBytes: 65_536 },
    measureOnPool(pool),
  );
  const contents = new Contents({ entries: 16, bytes: 1 << 20 });
  const handouts = new Handouts(SuperblockWatches.open([], noDescriptorStore));
  const clones = new StoreClones(stage, features.overlayDetachedLayers);
  onTestFinished(async () => {
    closing.stop();
    await sweeper.stop();
    kept?.drop(() => true);
    await pool.stop();
    installed.close();
    clones.close();
    handouts.close();
    stage.close();
  });
  const store: PolicyStore = { name: 'store', path: storePath, verity: 'trusted' };
  const images = new Images({
    pool,
    installed,
    contents,
    handouts,
    directory: state,
    imageBytes: 1 << 24,
    imageBytesInPlace: 1 << 24,
    closing,
  });
  const sweeper = new Sweeper(stage, pool);
  const discard = (mount: OwnedFd): void => {
    sweeper.discard(mount);
  };
  const kept =
    keep && features.lockedClones
      ? new KeptMounts({ stage, discard, memoryIsShort: () => memory.short })
      : undefined;
  handouts.onShort(
    (user) => {
      kept?.drop((kind) => user === undefined || kind.user === user);
      stage.sweep();
    },
    () => sweeper.sweeping,
  );
  const records = new HandoutRecords({ pool, stateDirectory: state, onFault: onBug });
  const mounter = new Mounter({
    stage,
    pool,
    features,
    handouts,
    contents,
    clones,
    kept,
    sweeper,
    records,
    objectsListed: 4,
    closing,
  });
  const peer = peers();
  const constraints: Constraints = {
    fileSystem: 'composefs',
    attributes: ['ro', 'nosuid', 'nodev'],
    verity: 'ifPresent',
    stores: [store],
    clientStores: false,
    rootHashOnly: false,
    devices: false,
    share: 'user',
    rollback: undefined,
  };
  return {
    ...{ directory, imageDirectory, store, image, digest, constraints, features, pool, closing, handouts },
    ...{ contents, installed, images, mounter, kept, sweeper, memory, bugs, records },
    policy: policyOf(store, imageDirectory),
    stores: new Stores(pool),
    peer,
    mount: async (taken, changes = {}) => {
      const stores = { names: undefined, directories: [], [Symbol.dispose]: () => undefined };
      await taken.admit();
      return mounter.mount({
        image: taken,
        constraints,
        stores,
        idMap: { kind: 'none' },
        peer: peer(),
        ...changes,
      });
    },
  };
}

/** A composefs image with the files `big`, whose content goes into the store, and `small`. */
export function makeImage(store: string, more: Readonly<Record<string, Entry>> = {}): Uint8Array {
  const big = Buffer.from(bigContent);
  const digest = verityDigest(big);
  const hex = digestHex(digest);
  const path = `${hex.slice(0, 2)}/${hex.slice(2)}`;
  mkdirSync(join(store, hex.slice(0, 2)), { recursive: true });
  writeFileSync(join(store, path), big);
  const attributes = { uid: 0, gid: 0, mtime: { seconds: 0n, nanoseconds: 0 }, xattrs: [] };
  const file = (size: number, content: RegularFile['content']): RegularFile => {
    return { ...attributes, type: 'file', mode: 0o644, nlink: 1, size, content };
  };
  const small = Buffer.from('small\n');
  const entries = new Map<string, Entry>([
    ['big', file(big.length, { kind: 'external', path, digest })],
    ['small', file(small.length, { kind: 'inline', bytes: small })],
    ...Object.entries(more),
  ]);
  const root = { ...attributes, type: 'directory', mode: 0o755, entries } as const;
  return writeImage({ root }, { minVersion: 1, maxVersion: 1 });
}

/** Peers that are this very process, one for each user, for as long as the test runs. */
function peers(): (user?: number) => MountOrder['peer'] {
  const userNamespace = openFile('/proc/self/ns/user');
  const pidfd = openPidfd(process.pid);
  onTestFinished(() => {
    userNamespace.close();
    pidfd.close();
  });
  return (user = 1000) => {
    const caller = { uid: user, root: user === 0 };
    return { user, caller, initialNamespace: true, userNamespace, pid: process.pid, pidfd };
  };
}

function policyOf(store: PolicyStore, imageDirectory: string): Policy {
  return {
    keys: new Map(),
    clockSkew: 0,
    revokedKeys: new Set(),
    keyrings: new Map(),
    revokedDigests: new Set(),
    stores: new Map([[store.name, store]]),
    imageDirectories: [imageDirectory],
    rules: [],
    digest: 'sha256:test',
  };
}

/** A memfd that holds `bytes`, sealed as the service wants it. */
export function sealedMemfd(bytes: Uint8Array): OwnedFd {
  const memfd = createMemfd('image');
  writeAll(memfd.number, bytes);
  addSeals(memfd.number, ['write', 'shrink', 'grow']);
  return memfd;
}

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** How many descriptors of this process refer to a path that ends so. */
export function descriptorsOf(end: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => readLink(fd)?.endsWith(end) === true).length;
}

function readLink(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // It was closed since: the descriptor of the listing itself, for one.
    return undefined;
  }
}

/** Waits until `condition` holds, at most half a minute. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end;) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`waited for half a minute: ${what}`);
}

/** A FUSE server that holds back what it is told to. */
export interface HeldFuse {
  /** Its folder, as this process reaches it. It holds `file` and `folder`. */
  readonly path: string;
  /** Resolves once it holds back a request of that name. */
  held(operation: string): Promise<void>;
  /** Lets it answer what it holds back and all that comes. */
  release(): void;
  /** Has it hold back from now on what it was started to; resolves once it does. */
  hold(): Promise<void>;
}

/** What a FUSE server shows. */
export interface FuseContent {
  /** The path of what its file holds. */
  readonly content?: string;
  /** What it says when it is asked for the fs-verity digest of its file. */
  readonly verity?: Digest;
  /** It answers everything until it is told to hold back. */
  readonly released?: boolean;
}

/** Starts a FUSE server (mounting-fuse.py) that leaves `operations` unanswered. It ends with the test. */
export async function startHeldFuse(
  room: Room,
  operations: readonly string[],
  shown: FuseContent = {},
): Promise<HeldFuse> {
  const folder = mkdtempSync(join(room.directory, 'fuse-'));
  const script = join(import.meta.dirname, 'mounting-fuse.py');
  const options = [
    ...(shown.content === undefined ? [] : ['--content', shown.content]),
    ...(shown.verity === undefined ? [] : ['--verity', digestHex(shown.verity)]),
    ...(shown.released === true ? ['--released'] : []),
  ];
  const server = spawn('python3', [script, ...options, folder, ...operations], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = new Promise((resolve) => server.once('exit', resolve));
  onTestFinished(async () => {
    server.stdin.end();
    await exited;
  });
  const lines: string[] = [];
  createInterface({ input: server.stdout }).on('line', (line) => lines.push(line));
  await until('the FUSE server', () => lines.includes('ready'));
  return {
    path: join('/proc', String(server.pid), 'root', folder),
    held: (operation) => until(`held ${operation}`, () => lines.includes(`held ${operation}`)),
    release: () => {
      server.stdin.write('release\n');
    },
    hold: () => {
      server.stdin.write('hold\n');
      return until('the FUSE server holds back', () => lines.includes('holding'));
    },
  };
}
