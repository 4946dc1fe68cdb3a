import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestHex } from '../../src/base/digest.ts';
import type { Entry } from '../../src/composefs/tree.ts';
import { listenUnix } from '../../src/sys/socket.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName } from '../support/raw-client.ts';
import { until } from './acceptance-room.ts';

const checkout = resolve(import.meta.dirname, '../..');
const signer = new Signer();
const big = 'content of an object of the store\n'.repeat(1000);
const object = digestHex(digestOf(Buffer.from(big))).replace(/^(..)/, '$1/');
const bigEntry: Entry = {
  ...{
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0n, nanoseconds: 0 },
    xattrs: [],
    nlink: 1,
  },
  size: big.length,
  content: { kind: 'external', path: object, digest: digestOf(Buffer.from(big)) },
};

let place: Place;
let hosts: Host[];
let containers: Container[];
beforeEach(() => {
  place = makePlace('upgrade');
  containers = [];
  hosts = [];
  for (const name of ['images', `objects/${object.slice(0, 2)}`, 'run'])
    mkdirSync(join(place.folder, name), { recursive: true });
  writeFileSync(join(place.folder, 'objects', object), big);
  for (const name of ['before', 'after']) {
    const image = smallImage({ name }, [['big', bigEntry]]);
    writeFileSync(join(place.folder, 'images', `${name}.cfs`), image);
    writeFileSync(
      join(place.folder, 'images', `${name}.cfs.sig`),
      signer.sign(digestOf(image), `example/${name}`),
    );
  }
});
afterEach(async () => {
  for (const container of containers) await container.end();
  for (const host of hosts) host.signal('SIGKILL');
  place.remove();
});

const policy = (): string => `
[[keys]]
id = "site"
file = "site.pub"
[[stores]]
name = "objects"
path = "${place.folder}/objects"
verity = "trusted"
[[image-directories]]
path = "${place.folder}/images"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
stores = ["objects"]
verity = "if-present"
`;

/** Puts the program into place as a package manager does: beside, then by renaming. What was there is gone then. */
function install(version: string): void {
  const at = (name: string): string => join(place.folder, name);
  mkdirSync(at('new'));
  cpSync(join(checkout, 'dist'), at('new/dist'), { recursive: true });
  symlinkSync(join(checkout, 'node_modules'), at('new/node_modules'));
  writeFileSync(at('new/package.json'), JSON.stringify({ name: 'cfs-mountd', version, type: 'module' }));
  if (existsSync(at('program'))) renameSync(at('program'), at('old'));
  renameSync(at('new'), at('program'));
  rmSync(at('old'), { recursive: true, force: true });
}

async function start(listening?: number): Promise<Host> {
  const host = await Host.start({
    folder: place.folder,
    policy: { '10.toml': policy() },
    keys: { 'site.pub': signer.publicPem },
    program: join(place.folder, 'program/dist/cli/cfs-mountd.cjs'),
    ...(listening !== undefined && { listening }),
  });
  hosts.push(host);
  return host;
}

/** A process that is root of user and mount namespaces of its own, in which the folder of the socket is bound. */
class Container {
  readonly #process;
  readonly #answers: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;

  constructor() {
    const script = join(import.meta.dirname, 'upgrade-container.py');
    this.#process = spawn(
      'unshare',
      ['--user', '--map-root-user', '--mount', '/usr/bin/python3', script, join(place.folder, 'run')],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    this.#ended = new Promise((done) => this.#process.once('close', done));
    this.#answers = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
    containers.push(this);
  }

  /** Has it do something, and answers what came of it. */
  async ask(...words: readonly string[]): Promise<unknown> {
    this.#process.stdin.write(`${words.join(' ')}\n`);
    const answer = await this.#answers.next();
    if (answer.done === true) throw new Error('the container has ended');
    return JSON.parse(answer.value) as unknown;
  }

  async end(): Promise<void> {
    this.#process.stdin.end();
    await this.#ended;
  }
}

const at = (name: string): string => join(place.folder, name);

/** The mount namespaces in which threads of a process are, other than this one's. */
function namespacesOf(pid: number | string): string[] {
  const own = readlinkSync('/proc/self/ns/mnt');
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    const found = threads.map((thread) => readlinkSync(`/proc/${pid}/task/${thread}/ns/mnt`));
    return found.filter((namespace) => namespace !== own);
  } catch {
    return []; // It has ended meanwhile.
  }
}

/** Whether any process of the machine is in one of the namespaces. */
function isAnybodyIn(namespaces: readonly string[]): boolean {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return processes.some((process) => namespacesOf(process).some((each) => namespaces.includes(each)));
}

async function versionOf(host: Host): Promise<unknown> {
  const client = host.connect();
  const { parameters } = await client.call('Describe');
  client.close();
  return parameters['version'];
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))(
  'a newer version in place of a running one',
  () => {
    test('containers go on: their mounts work, and the folder that they have bound leads to the new one', async () => {
      install('1.0.0');
      const old = await start();
      const folder = statSync(at('run')).ino;
      expect(await versionOf(old)).toBe('1.0.0');
      const container = new Container();
      expect(await container.ask('mount', 'before', at('a'))).toBe('mounted');
      expect(await container.ask('mount', 'after', at('b'))).toBe('mounted');
      expect(await container.ask('connect')).toBe('connected');
      install('1.0.1');
      await old.stop();
      // A connection that waited for nothing ends in order, and one that comes now is told that nobody is there.
      expect(await container.ask('end')).toBe('end');
      expect(await container.ask('connect')).toMatch(/^(ENOENT|ECONNREFUSED)$/);
      // What nobody has opened yet is still looked up in the store.
      expect(await container.ask('read', at('a/name'))).toBe('before');
      expect(await container.ask('read', at('a/big'))).toBe(big);
      const next = await start();
      expect(await versionOf(next)).toBe('1.0.1');
      expect(statSync(at('run')).ino).toBe(folder);
      expect(await container.ask('mount', 'after', at('c'))).toBe('mounted');
      for (const [name, content] of Object.entries({ a: 'before', b: 'after', c: 'after' })) {
        expect(await container.ask('read', at(`${name}/name`))).toBe(content);
        expect(await container.ask('read', at(`${name}/big`))).toBe(big);
        expect(await container.ask('clear', at(name))).toBe('EPERM');
      }
      await next.stop();
    });

    test('nothing is left of one that was killed but the mounts that it handed out', async () => {
      install('1.0.0');
      const old = await start();
      const container = new Container();
      expect(await container.ask('mount', 'before', at('a'))).toBe('mounted');
      const stage = namespacesOf(old.pid);
      expect(stage).not.toEqual([]);
      old.signal('SIGKILL');
      await old.ended();
      // Its stage was in these, and goes with them. Looked for at once: their numbers are given anew.
      await until('nobody is in its namespaces', () => !isAnybodyIn(stage));
      install('1.0.1');
      // The socket that it could not take away: nobody is there, and the next one takes its place.
      expect(await container.ask('connect')).toBe('ECONNREFUSED');
      const next = await start();
      expect(await container.ask('mount', 'after', at('b'))).toBe('mounted');
      expect(await container.ask('read', at('a/big'))).toBe(big);
      expect(await container.ask('read', at('b/big'))).toBe(big);
      // Copies had no names.
      expect(
        readdirSync(at('state')).filter((name) => !/^versions\.jsonl|^lock$|^handed-out$/.test(name)),
      ).toEqual([]);
      await next.stop();
      await container.end();
      expect(loopFiles().filter((path) => path.startsWith(place.folder))).toEqual([]);
    });

    test('the sockets of the service manager outlive both: who connects in between is served by the new one', async () => {
      install('1.0.0');
      using listening = listenUnix(join(at('run'), interfaceName), 0o666, 16);
      const socket = statSync(join(at('run'), interfaceName)).ino;
      const old = await start(listening.number);
      const container = new Container();
      expect(await container.ask('mount', 'before', at('a'))).toBe('mounted');
      await old.stop();
      install('1.0.1');
      const waiting = container.ask('mount', 'after', at('b'));
      const next = await start(listening.number);
      expect(await waiting).toBe('mounted');
      expect(await versionOf(next)).toBe('1.0.1');
      expect(await container.ask('read', at('a/big'))).toBe(big);
      expect(await container.ask('read', at('b/big'))).toBe(big);
      await next.stop();
      expect(statSync(join(at('run'), interfaceName)).ino).toBe(socket);
    });

    test('one whose files are replaced goes on until it is stopped', async () => {
      install('1.0.0');
      const old = await start();
      install('1.0.1');
      const container = new Container();
      expect(await container.ask('mount', 'before', at('a'))).toBe('mounted');
      expect(await container.ask('read', at('a/big'))).toBe(big);
      expect(await versionOf(old)).toBe('1.0.0');
      await old.stop();
    });
  },
);
