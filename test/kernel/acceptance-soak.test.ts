import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import { moveMount, umountDetach } from '../../src/sys/mount-calls.ts';
import type { JsonObject } from '../../src/varlink/message.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';
import {
  connectAs,
  connectAsRoot,
  descriptorsOf,
  drop,
  errorName,
  memfdOf,
  mountsOf,
  residentBytes,
  serviceError,
  threadsOf,
  until,
} from './acceptance-room.ts';

// A virtual machine is several times slower, and shows what its own kernel leaves behind in fewer rounds as well.
const rounds = Number(process.env['CFS_SOAK'] ?? (process.env['CFS_VM'] === undefined ? 10_000 : 500));
const mib = 1024 * 1024;

/** What a process holds of what may leak. */
interface Holding {
  readonly descriptors: number;
  readonly threads: number;
}

const holdings = (pid: number): Holding => ({
  descriptors: descriptorsOf(pid).length,
  threads: threadsOf(pid),
});

/** One call of Mount with a new descriptor, if any; `error` is the name that it expects; without one, a mount. */
interface Round {
  readonly parameters: JsonObject;
  readonly fd?: () => OwnedFd;
  readonly error?: string;
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('a service in use for long', () => {
  let place: Place;
  let host: Host;
  const signer = new Signer();
  const images = Array.from({ length: 8 }, (_, index) =>
    smallImage({ hello: `hello from image ${index}\n` }),
  );
  const digests = images.map(digestOf);
  const signatures = digests.map((digest) => toBase64(signer.sign(digest, 'example/memfd')));

  beforeAll(async () => {
    place = makePlace('acceptance-soak');
    const folder = join(place.folder, 'images');
    for (const made of [folder, join(place.folder, 'here')]) mkdirSync(made, { mode: 0o755 });
    for (const [index, image] of images.entries()) {
      writeFileSync(join(folder, `app-${index}.cfs`), image);
      writeFileSync(join(folder, `app-${index}.cfs.sig`), signer.sign(digestOf(image), 'example/installed'));
    }
    const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder}"
[[rules]]
name = "signed"
users = ["*"]
signed-by = ["site"]
verity = "never"
`;
    host = await Host.start({
      folder: place.folder,
      policy: { '10.toml': policy },
      keys: { 'site.pub': signer.publicPem },
    });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  function mounting(round: number): Round {
    const which = round % images.length;
    const image = images[which] ?? new Uint8Array();
    switch (round % 5) {
      case 0:
      case 1:
      case 2:
        return { parameters: { image: { name: `app-${which}` } } };
      case 3:
        return { parameters: { image: { name: digests[which] ?? '' } } };
      default:
        return {
          parameters: { image: { fileDescriptor: 0 }, signatures: [signatures[which] ?? ''] },
          fd: () => memfdOf(image),
        };
    }
  }

  function failing(round: number): Round {
    const image = images[0] ?? new Uint8Array();
    const descriptor = { image: { fileDescriptor: 0 }, signatures: [signatures[0] ?? ''] };
    const kinds: (() => Round)[] = [
      () => ({
        parameters: { image: { fileDescriptor: 0 } },
        fd: () => memfdOf(image),
        error: errorName('NotSigned'),
      }),
      () => ({
        parameters: { ...descriptor, digest: digests[1] ?? '' },
        fd: () => memfdOf(image),
        error: errorName('DigestMismatch'),
      }),
      () => ({
        parameters: descriptor,
        fd: () => memfdOf(image.subarray(0, 8192)),
        error: errorName('SignatureInvalid'),
      }),
      () => ({
        parameters: descriptor,
        fd: () => memfdOf(image, ['write']),
        error: errorName('ImageNotImmutable'),
      }),
      () => ({
        parameters: descriptor,
        fd: () => openFile('/', { directory: true }),
        error: errorName('BadFileDescriptor'),
      }),
      () => ({
        parameters: { ...descriptor, stores: ['absent'] },
        fd: () => memfdOf(image),
        error: errorName('StoreNotFound'),
      }),
      () => ({ parameters: { image: { name: 'absent' } }, error: errorName('ImageNotFound') }),
      () => ({ parameters: { image: { fileDescriptor: 1 } }, error: serviceError('InvalidParameter') }),
    ];
    const kind = kinds[round % kinds.length];
    if (kind === undefined) throw new Error('there is no such kind');
    return kind();
  }

  async function ask(client: RawClient, round: Round): Promise<RawReply> {
    for (;;) {
      using fd = round.fd?.();
      const reply = await client.call('Mount', round.parameters, fd === undefined ? [] : [fd.number]);
      // The kernel takes its time to end superblocks; a client that keeps at it waits for its own share.
      if (reply.error !== errorName('LimitExceeded') || round.error !== undefined) return reply;
    }
  }

  /** Attaches the mount of a reply, looks at a file in it, and unmounts it. */
  function attach(reply: RawReply, expected: string): void {
    using mount = new OwnedFd(reply.fds[0] ?? -1);
    const target = join(place.folder, 'here');
    moveMount(mount.number, target);
    try {
      expect(readFileSync(join(target, 'hello'), 'utf8')).toBe(expected);
    } finally {
      umountDetach(target);
    }
  }

  async function oneRound(client: RawClient, uid: number, round: number): Promise<void> {
    if (round % 4 !== 3) {
      const asked = mounting(round);
      const reply = await ask(client, asked);
      expect(reply.error, JSON.stringify([asked, reply])).toBeUndefined();
      if (round % 10 === 0) attach(reply, `hello from image ${round % images.length}\n`);
      else drop(reply);
      return;
    }
    const kind = ((round - 3) / 4) % 10;
    if (kind < 8) {
      const asked = failing(kind);
      const reply = await ask(client, asked);
      expect(reply.error).toBe(asked.error);
      expect(reply.fds).toEqual([]);
      return;
    }
    const other = connectAs(host, uid === 0 ? 1002 : uid);
    using fd = memfdOf(images[0] ?? new Uint8Array());
    if (kind === 8) {
      other.send(Buffer.from('{"method":"x","parameters":{]}\0'), [fd.number]);
      expect(await other.receive()).toBeUndefined();
    } else {
      // It goes before its reply comes.
      const call = {
        method: `${interfaceName}.Mount`,
        parameters: { image: { fileDescriptor: 0 }, signatures: [signatures[0] ?? ''] },
      };
      other.send(Buffer.from(`${JSON.stringify(call)}\0`), [fd.number]);
    }
    other.close();
  }

  async function run(from: number, to: number): Promise<void> {
    const users = [0, 0, 1000, 1000, 1001];
    const lanes: { readonly uid: number; readonly client: RawClient }[] = [];
    for (const uid of users) {
      lanes.push({ uid, client: uid === 0 ? await connectAsRoot(host) : connectAs(host, uid) });
    }
    let next = from;
    await Promise.all(
      lanes.map(async ({ uid, client }) => {
        while (next < to) {
          next += 1;
          await oneRound(client, uid, next - 1);
        }
        client.close();
      }),
    );
  }

  /** Has the service do as much at once as it will, so that it has every thread that it keeps. */
  async function burst(): Promise<void> {
    const clients = [1000, 1001, 1002, 1003].flatMap((uid) => [connectAs(host, uid), connectAs(host, uid)]);
    const mount: Round = {
      parameters: { image: { fileDescriptor: 0 }, signatures: [signatures[0] ?? ''] },
      fd: () => memfdOf(images[0] ?? new Uint8Array()),
    };
    const replies = await Promise.all(clients.map((client) => ask(client, mount)));
    expect(replies.map(({ error }) => error)).toEqual(clients.map(() => undefined));
    replies.forEach(drop);
    for (const client of clients) client.close();
  }

  /** What the service keeps of images that may be asked for again would go by itself, a minute later. */
  async function dropKept(): Promise<void> {
    const root = await connectAsRoot(host);
    expect((await root.call('Drop')).error).toBeUndefined();
    root.close();
  }

  /** What the service holds, once that has stopped to become less. */
  async function settled(): Promise<Holding> {
    const mounted = (): boolean =>
      mountsOf(host.pid).some((line) => digests.some((digest) => line.includes(digest)));
    const copies = (): boolean =>
      descriptorsOf(host.pid).some((name) => /^(?!\/memfd:cfs-mountd-).*\(deleted\)/.test(name));
    await until('nothing is mounted and no copy open', () => !mounted() && !copies());
    let held = holdings(host.pid);
    let same = 0;
    await until('threads and descriptors stay as many as they are', () => {
      const now = holdings(host.pid);
      same = now.descriptors === held.descriptors && now.threads === held.threads ? same + 1 : 0;
      held = now;
      return same >= 10;
    });
    return held;
  }

  test(`${rounds} mounts and unmounts, a quarter of them refused, leave nothing behind`, async () => {
    const table = readFileSync(`/proc/${host.pid}/mountinfo`, 'utf8');
    const ours = (): string[] =>
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(place.folder) || digests.some((digest) => line.includes(digest)));
    expect(ours()).toEqual([]);
    const warmUp = Math.floor(rounds / 5);
    await run(0, warmUp);
    await burst();
    await dropKept();
    const before = await settled();
    const resident = residentBytes(host.pid);
    await run(warmUp, rounds);
    await dropKept();
    await until('threads and descriptors are as many as before', () => {
      const now = holdings(host.pid);
      return now.descriptors <= before.descriptors && now.threads <= before.threads;
    });
    await settled();
    expect(residentBytes(host.pid)).toBeLessThan(1.5 * resident + 50 * mib);
    expect(readFileSync(`/proc/${host.pid}/mountinfo`, 'utf8')).toBe(table);
    expect(ours()).toEqual([]);
    expect(host.log.filter(({ level }) => level !== 'info' && level !== 'debug')).toEqual([]);
  }, 300_000);
});
