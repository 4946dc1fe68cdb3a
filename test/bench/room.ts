import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Digest } from '../../src/base/digest.ts';
import { connect, ServiceUnreachable, type MountDelegationClient } from '../../src/client/client.ts';
import { buildImage } from '../../src/store/build.ts';
import { ObjectStore } from '../../src/store/objects.ts';
import { makePlace, Signer, writePolicy } from '../support/hosting.ts';
import type { RawTarget } from './raw-rounds.ts';

// npm runs scripts in the project's folder; what is compiled here lies elsewhere.
const dist = resolve(process.cwd(), 'dist');

/** An image that is installed under its name, and the tree that it was built from. */
export interface BenchImage {
  readonly name: string;
  readonly source: string;
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly signature: Uint8Array;
}

/** A service that runs, with images of real files. */
export interface Room {
  readonly folder: string;
  readonly storePath: string;
  readonly socketPath: string;
  readonly policyFolder: string;
  /** A hundred files. */
  readonly small: BenchImage;
  /** 37,000 entries, 8 MB. */
  readonly large: BenchImage;
  readonly client: MountDelegationClient;
  /** What the raw calls build of `image`, and a call of Mount with `parameters`. */
  target(image: BenchImage, parameters: object): RawTarget;
  /** Builds an image of a hundred files whose content no other has. */
  makeNew(): Promise<Pick<BenchImage, 'bytes' | 'signature'>>;
  /** Stops the service and starts it again; the milliseconds from its start until it answers. */
  restart(): Promise<number>;
  /** The service's memory that is resident, in megabytes. */
  residentMegabytes(): number;
  close(): Promise<void>;
}

/** Makes keys, policy, store and images below TMPDIR or /var/tmp, and starts the service. */
export async function openRoom(): Promise<Room> {
  const place = makePlace('bench');
  const at = (path: string): string => join(place.folder, path);
  mkdirSync(at('images'), { mode: 0o755 });
  const store = ObjectStore.create(at('objects'));
  const signer = new Signer();
  const install = async (name: string, folders: number, files: number): Promise<BenchImage> => {
    const source = at(`tree-${name}`);
    makeTree(source, folders, files);
    const { image, digest } = await buildImage({ source, store, minVersion: 1, maxVersion: 1 });
    const path = at(`images/${name}.cfs`);
    const signature = signer.sign(digest, `example/${name}`);
    writeFileSync(path, image);
    writeFileSync(`${path}.sig`, signature);
    return { name, source, path, bytes: image, digest, signature };
  };
  const [small, large] = [await install('small', 4, 25), await install('large', 3000, 11)];
  writePolicy(place.folder, { '10.toml': policyFor(place.folder) }, { 'bench.pub': signer.publicPem });
  const socketPath = at('socket');
  let service = await startService(place.folder, socketPath);
  let made = 0;
  return {
    folder: place.folder,
    storePath: at('objects'),
    socketPath,
    policyFolder: at('policy'),
    small,
    large,
    get client() {
      return service.client;
    },
    target: (image, parameters) => {
      const requestPath = at(`request-${made++}`);
      const call = { method: 'io.cfsmountd.MountDelegation.Mount', parameters };
      writeFileSync(requestPath, `${JSON.stringify(call)}\0`);
      return { imagePath: image.path, storePath: at('objects'), socketPath, requestPath };
    },
    makeNew: async () => {
      writeFileSync(join(small.source, 'number'), `${made++}\n`);
      const { image, digest } = await buildImage({
        source: small.source,
        store,
        minVersion: 1,
        maxVersion: 1,
      });
      return { bytes: image, signature: signer.sign(digest, 'example/new') };
    },
    restart: async () => {
      await service.stop();
      service = await startService(place.folder, socketPath);
      return service.milliseconds;
    },
    residentMegabytes: () => {
      const status = readFileSync(`/proc/${service.pid}/status`, 'latin1');
      return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
    },
    close: async () => {
      await service.stop();
      place.remove();
    },
  };
}

/** Files whose contents go to the store, each with its own. */
function makeTree(folder: string, folders: number, files: number): void {
  for (let outer = 0; outer < folders; outer++) {
    const path = join(folder, `share-${outer % 50}`, `package-${outer}`);
    mkdirSync(path, { recursive: true });
    for (let inner = 0; inner < files; inner++) {
      const name = `a file with a name of usual length ${inner}.conf`;
      writeFileSync(join(path, name), `${outer} ${inner} of ${folder}\n`.repeat(4));
    }
  }
}

function policyFor(folder: string): string {
  return `
[[keys]]
id = "bench"
file = "bench.pub"
[[stores]]
name = "bench"
path = "${folder}/objects"
verity = "trusted"
[[image-directories]]
path = "${folder}/images"
[[rules]]
name = "signed images of the benchmark"
users = ["*"]
signed-by = ["bench"]
stores = ["bench"]
verity = "if-present"
`;
}

interface Service {
  readonly pid: number;
  readonly client: MountDelegationClient;
  readonly milliseconds: number;
  stop(): Promise<void>;
}

/** Starts it in a mount namespace of its own. */
async function startService(folder: string, socketPath: string): Promise<Service> {
  const log = openSync(join(folder, 'log'), 'w');
  const own = ['--socket', socketPath, '--policy', join(folder, 'policy'), '--state', join(folder, 'state')];
  const options = (process.env['CFS_BENCH_NODE_OPTIONS'] ?? '').split(' ').filter((option) => option !== '');
  const command = [process.execPath, ...options, join(dist, 'cli/cfs-mountd.cjs'), ...own];
  const begun = performance.now();
  // unshare(1) becomes the service, so that its process is the one to signal.
  const child = spawn('unshare', ['--mount', '--propagation', 'private', '--', ...command], {
    stdio: ['ignore', log, 'inherit'],
  });
  closeSync(log);
  const ended = new Promise((done) => child.once('close', done));
  const client = await connectWhenReady(child, socketPath, join(folder, 'log'));
  await client.describe();
  return {
    pid: child.pid ?? -1,
    client,
    milliseconds: performance.now() - begun,
    stop: async () => {
      client.close();
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function connectWhenReady(
  child: ChildProcess,
  socketPath: string,
  log: string,
): Promise<MountDelegationClient> {
  const end = Date.now() + 30_000;
  for (;;) {
    try {
      return await connect(socketPath);
    } catch (error) {
      if (!(error instanceof ServiceUnreachable) || Date.now() > end || child.exitCode !== null) {
        throw new Error(`the service does not answer: ${readFileSync(log, 'utf8')}`, { cause: error });
      }
      await wait(2);
    }
  }
}
