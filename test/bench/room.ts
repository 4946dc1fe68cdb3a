import { spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { connect, ServiceUnreachable, type MountDelegationClient } from '../../src/client/client.ts';
import { buildImage } from '../../src/store/build.ts';
import { ObjectStore } from '../../src/store/objects.ts';
import { makePlace, Signer, writePolicy } from '../support/hosting.ts';

// npm runs scripts in the project's folder; what is compiled here lies elsewhere.
const dist = resolve(process.cwd(), 'dist');

/** The name under which the image is installed. */
export const installedName = 'app';

/** An image and the signature file that goes with it. */
export interface SignedImage {
  readonly image: Uint8Array;
  readonly signature: Uint8Array;
}

/** A service that runs, with one installed image of real files. */
export interface Room {
  readonly imagePath: string;
  readonly storePath: string;
  readonly socketPath: string;
  /** A file with a call of Mount for the installed image, as it goes over the socket. */
  readonly requestPath: string;
  readonly known: SignedImage;
  readonly client: MountDelegationClient;
  /** Builds an image whose content no other has. */
  makeNew(): Promise<SignedImage>;
  close(): Promise<void>;
}

/** Makes keys, policy, store and image below TMPDIR or /var/tmp, and starts the service. */
export async function openRoom(): Promise<Room> {
  const place = makePlace('bench');
  const at = (path: string): string => join(place.folder, path);
  for (const folder of ['tree', 'images']) mkdirSync(at(folder), { mode: 0o755 });
  for (const file of readdirSync(join(dist, 'daemon')))
    copyFileSync(join(dist, 'daemon', file), at(`tree/${file}`));
  const store = ObjectStore.create(at('objects'));
  const signer = new Signer();
  let made = 0;
  const makeNew = async (): Promise<SignedImage> => {
    writeFileSync(at('tree/number'), `${made++}\n`);
    const { image, digest } = await buildImage({ source: at('tree'), store, minVersion: 1, maxVersion: 1 });
    return { image, signature: signer.sign(digest, 'example/bench') };
  };
  const known = await makeNew();
  const paths = {
    imagePath: at(`images/${installedName}.cfs`),
    storePath: at('objects'),
    socketPath: at('socket'),
    requestPath: at('request'),
  };
  writeFileSync(paths.imagePath, known.image);
  writeFileSync(`${paths.imagePath}.sig`, known.signature);
  const call = {
    method: 'io.cfsmountd.MountDelegation.Mount',
    parameters: { image: { name: installedName } },
  };
  writeFileSync(paths.requestPath, `${JSON.stringify(call)}\0`);
  writePolicy(place.folder, { '10.toml': policyFor(place.folder) }, { 'bench.pub': signer.publicPem });
  const stop = startService(place.folder, paths.socketPath);
  const client = await connectWhenReady(paths.socketPath, at('log'));
  return {
    ...paths,
    known,
    client,
    makeNew,
    close: async () => {
      client.close();
      await stop();
      place.remove();
    },
  };
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
users = ["root"]
signed-by = ["bench"]
stores = ["bench"]
verity = "if-present"
`;
}

/** Starts it in a mount namespace of its own, and answers with what stops it. */
function startService(folder: string, socketPath: string): () => Promise<void> {
  const log = openSync(join(folder, 'log'), 'w');
  const own = ['--socket', socketPath, '--policy', join(folder, 'policy'), '--state', join(folder, 'state')];
  const options = (process.env['CFS_BENCH_NODE_OPTIONS'] ?? '').split(' ').filter((option) => option !== '');
  const service = [process.execPath, ...options, join(dist, 'cli/cfs-mountd.js'), ...own];
  // unshare(1) becomes the service, so that its process is the one to signal.
  const child = spawn('unshare', ['--mount', '--propagation', 'private', '--', ...service], {
    stdio: ['ignore', log, 'inherit'],
  });
  closeSync(log);
  const ended = new Promise((done) => child.once('close', done));
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

async function connectWhenReady(socketPath: string, log: string): Promise<MountDelegationClient> {
  const end = Date.now() + 30_000;
  for (;;) {
    try {
      return await connect(socketPath);
    } catch (error) {
      if (!(error instanceof ServiceUnreachable) || Date.now() > end) {
        throw new Error(`the service does not answer: ${readFileSync(log, 'utf8')}`, { cause: error });
      }
      await wait(50);
    }
  }
}
