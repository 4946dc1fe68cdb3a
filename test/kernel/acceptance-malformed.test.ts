import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { limits } from '../../src/daemon/callers/limits.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile, type Seal } from '../../src/sys/file.ts';
import { openPidfd } from '../../src/sys/peer.ts';
import { connectUnix, shutdownSocket, socketPair } from '../../src/sys/socket.ts';
import type { JsonObject, JsonValue } from '../../src/varlink/json.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient } from '../support/raw-client.ts';
import {
  connectAsRoot,
  descriptorsOf,
  drop,
  errorName,
  memfdOf,
  readFrom,
  serviceError,
  until,
} from './acceptance-room.ts';

const mount = `${interfaceName}.Mount`;

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('a malformed call', () => {
  let place: Place;
  let host: Host;
  let client: RawClient;
  let opened: number;
  const signer = new Signer();
  const image = smallImage({ hello: 'hello\n' });
  const signatures = [toBase64(signer.sign(digestOf(image), 'example/image'))];

  beforeAll(async () => {
    place = makePlace('acceptance-malformed');
    const folder = join(place.folder, 'images');
    mkdirSync(folder, { mode: 0o755 });
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
    client = await connectAsRoot(host);
    // The threads that the service keeps have started by then.
    for (let round = 0; round < 5; round += 1) await mounts();
    opened = descriptorsOf(host.pid).length;
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  /** The service serves the connection still. */
  async function mounts(): Promise<void> {
    using memfd = memfdOf(image);
    const reply = await client.call('Mount', { image: { fileDescriptor: 0 }, signatures }, [memfd.number]);
    expect(readFrom(reply, 'hello')).toBe('hello\n');
  }

  /** It does, and holds nothing of what was sent to it. Two threads' worth of descriptors may have come since. */
  async function nothingHeld(): Promise<void> {
    await mounts();
    await until('no descriptor that was sent is open', () => {
      const names = descriptorsOf(host.pid);
      return names.length <= opened + 40 && !names.some((name) => isOurs(name));
    });
  }

  const isOurs = (name: string): boolean =>
    name.startsWith('/memfd:image') || name.startsWith(join(place.folder, 'sent')) || name === '/dev/full';

  // What no field of a kind takes.
  const wrong = {
    object: [true, 1, 'x', [], null, [{}]],
    index: [true, 'x', '0', 0.5, [0], {}, -1, 7, 253, 2 ** 31, 2 ** 32, 2 ** 53 - 1, -(2 ** 53 - 1)],
    indices: [true, 0, 'x', {}, [null], ['0'], [0.5], [-1], [7], [2 ** 40], [[0]], [1, 1]],
    text: [true, 1, [], {}, [''], '', 'nonsense\u0000', '../x', '/', 'x'.repeat(300)],
    texts: [true, 1, 'x', {}, [null], [1], [['x']], [{}], ['x', 'x', null]],
    flag: [0, 1, 'true', [], {}],
  } as const satisfies Readonly<Record<string, readonly JsonValue[]>>;
  const fields: readonly [string, keyof typeof wrong][] = [
    ['image', 'object'],
    ['image.fileDescriptor', 'index'],
    ['image.name', 'text'],
    ['fileSystem', 'text'],
    ['digest', 'text'],
    ['signatures', 'texts'],
    ['allowUnsigned', 'flag'],
    ['stores', 'texts'],
    ['storeFileDescriptors', 'indices'],
    ['verity', 'text'],
    ['idMap', 'text'],
    ['userNamespaceFileDescriptor', 'index'],
    ['attributes', 'texts'],
  ];

  /** Parameters with `value` at `field`, beside what a call needs. */
  function withField(field: string, value: JsonValue): JsonObject {
    const good = { image: { fileDescriptor: 0 }, signatures };
    if (field.startsWith('image.')) return { ...good, image: { [field.slice('image.'.length)]: value } };
    if (field === 'userNamespaceFileDescriptor') return { ...good, idMap: 'userNamespace', [field]: value };
    return { ...good, [field]: value };
  }

  /** Calls with two descriptors; answers error and parameter. */
  async function refusal(method: string, parameters: JsonObject): Promise<readonly unknown[]> {
    using memfd = memfdOf(image);
    const reply = await client.call(method, parameters, [memfd.number, memfd.number]);
    drop(reply);
    return [reply.error, reply.parameters['parameter']];
  }

  test.each(fields)('names the field %s, of which it takes a(n) %s', async (field, kind) => {
    for (const value of wrong[kind]) {
      const [error, parameter] = await refusal('Mount', withField(field, value));
      const what = JSON.stringify(value);
      expect(error, what).toBe(serviceError('InvalidParameter'));
      expect(String(parameter).startsWith(field), `${what}: ${String(parameter)}`).toBe(true);
    }
    await nothingHeld();
  });

  test('takes null for what is optional as left out', async () => {
    using memfd = memfdOf(image);
    const nothing = Object.fromEntries(
      fields
        .map(([field]) => field)
        .filter((field) => !field.startsWith('image') && field !== 'signatures')
        .map((field) => [field, null]),
    );
    const parameters = { ...nothing, image: { fileDescriptor: 0, name: null }, signatures };
    expect(readFrom(await client.call('Mount', parameters, [memfd.number]), 'hello')).toBe('hello\n');
  });

  test.each<[string, JsonObject, string]>([
    ['a field that nobody knows', { unknown: 1 }, 'unknown'],
    ['one in the image', { image: { fileDescriptor: 0, unknown: null } }, 'image.unknown'],
    ['one that every object inherits', { constructor: 1 }, 'constructor'],
    ['both images', { image: { fileDescriptor: 0, name: 'x' } }, 'image.name'],
    ['no image', { image: {} }, 'image'],
    ['one descriptor for two things', { storeFileDescriptors: [0] }, 'storeFileDescriptors[0]'],
    ['one descriptor for two stores', { storeFileDescriptors: [1, 1] }, 'storeFileDescriptors[1]'],
    ['a store twice', { stores: ['x', 'x'] }, 'stores'],
    ['a namespace without idMap', { userNamespaceFileDescriptor: 1 }, 'userNamespaceFileDescriptor'],
    ['idMap without a namespace', { idMap: 'userNamespace' }, 'userNamespaceFileDescriptor'],
    ['an unknown idMap', { idMap: 'all' }, 'idMap'],
    ['an unknown filesystem', { fileSystem: 'ntfs' }, 'fileSystem'],
    ['an attribute that weakens', { attributes: ['ro', 'suid'] }, 'attributes[1]'],
    ['a digest in capitals', { digest: digestOf(image).toUpperCase() }, 'digest'],
    ['a signature that is no base64', { signatures: ['AAAA', '*'] }, 'signatures[1]'],
    ['too many signatures', { signatures: Array.from({ length: 17 }, () => 'AAAA') }, 'signatures'],
    ['too long a signature', { signatures: ['A'.repeat(100_000)] }, 'signatures[0]'],
    [
      'too many stores',
      { storeFileDescriptors: Array.from({ length: 17 }, (_, i) => i) },
      'storeFileDescriptors',
    ],
  ])('names what is wrong with %s', async (_, parameters, field) => {
    const [error, parameter] = await refusal('Mount', {
      image: { fileDescriptor: 0 },
      signatures,
      ...parameters,
    });
    expect([error, parameter]).toEqual([serviceError('InvalidParameter'), field]);
    await nothingHeld();
  });

  test.each([
    ['a field twice', '{"image":{"fileDescriptor":0,"fileDescriptor":1}}', 'image.fileDescriptor'],
    ['a number beyond 2^53', '{"image":{"fileDescriptor":9007199254740993}}', 'image.fileDescriptor'],
    ['what is nested too deeply', `{"image":${'['.repeat(40)}${']'.repeat(40)}}`, 'image'],
  ])('names what is wrong with %s', async (_, parameters, field) => {
    client.send(Buffer.from(`{"method":"${mount}","parameters":${parameters}}\0`));
    const reply = await client.receive();
    expect(reply?.error).toBe(serviceError('InvalidParameter'));
    expect(reply?.parameters['parameter']).toEqual(expect.stringMatching(new RegExp(`^${field}`)));
    await nothingHeld();
  });

  /** What a client might send in place of an image, each with the error that it gets. */
  const descriptors: [string, string, () => OwnedFd][] = [
    ['a directory', 'BadFileDescriptor', () => openFile(place.folder, { directory: true })],
    ['a FIFO', 'BadFileDescriptor', () => openFile(sent('fifo'), { access: 'read-write' })],
    ['a socket', 'BadFileDescriptor', () => socketPair()[0]],
    ["the service's own socket", 'BadFileDescriptor', () => connectUnix(host.socketPath)],
    ['an O_PATH descriptor', 'BadFileDescriptor', () => openFile(sent('file'), { pathOnly: true })],
    ['a character device', 'BadFileDescriptor', () => openFile('/dev/full')],
    ['a terminal', 'BadFileDescriptor', () => openFile('/dev/ptmx', { access: 'read-write' })],
    ['a file of /proc', 'ImageNotImmutable', () => openFile('/proc/self/status')],
    ['a namespace', 'ImageNotImmutable', () => openFile('/proc/self/ns/user')],
    ['a process', 'BadFileDescriptor', () => openPidfd(process.pid)],
    ['a file open for writing alone', 'BadFileDescriptor', () => openFile(sent('file'), { access: 'write' })],
    [
      'a file open for reading and writing',
      'ImageNotImmutable',
      () => openFile(sent('file'), { access: 'read-write' }),
    ],
    ['a file without fs-verity', 'ImageNotImmutable', () => openFile(sent('file'))],
    ['a memfd without seals', 'ImageNotImmutable', () => memfdOf(image, [])],
    ...(['write', 'grow', 'shrink', 'seal'] as const).map((left): [string, string, () => OwnedFd] => {
      const seals: readonly Seal[] = (['write', 'grow', 'shrink'] as const).filter((seal) => seal !== left);
      return [
        left === 'seal'
          ? 'a memfd with just the seals that it needs'
          : `a memfd without F_SEAL_${left.toUpperCase()}`,
        left === 'seal' ? '' : 'ImageNotImmutable',
        () => memfdOf(image, seals),
      ];
    }),
  ];

  function sent(name: 'file' | 'fifo'): string {
    const path = join(place.folder, `sent-${name}`);
    if (name === 'file') writeFileSync(path, image);
    else execFileSync('sh', ['-c', '[ -p "$1" ] || mkfifo "$1"', 'sh', path]);
    return path;
  }

  test.each(descriptors)('with %s as the image gets "%s"', async (_, error, make) => {
    using fd = make();
    const reply = await client.call('Mount', { image: { fileDescriptor: 0 }, signatures }, [fd.number]);
    drop(reply);
    expect(reply.error).toBe(error === '' ? undefined : errorName(error));
    if (error === 'BadFileDescriptor') expect(reply.parameters['field']).toBe('image.fileDescriptor');
    if (error === 'ImageNotImmutable') expect(reply.parameters['reason']).not.toBe('');
    fd.close();
    await nothingHeld();
  });

  test.each(descriptors.filter(([what]) => what !== 'a directory'))(
    'with %s as a store or a user namespace gets an error that names the field',
    async (what, _, make) => {
      using memfd = memfdOf(image);
      for (const [field, parameters] of [
        ['storeFileDescriptors[0]', { storeFileDescriptors: [1] }],
        ['userNamespaceFileDescriptor', { idMap: 'userNamespace', userNamespaceFileDescriptor: 1 }],
      ] as const) {
        using fd = make();
        const reply = await client.call(
          'Mount',
          { image: { fileDescriptor: 0 }, signatures, ...parameters },
          [memfd.number, fd.number],
        );
        drop(reply);
        expect([what, field, reply.error, reply.parameters['field']]).toEqual([
          what,
          field,
          errorName('BadFileDescriptor'),
          field,
        ]);
      }
      await nothingHeld();
    },
  );

  test('takes 253 descriptors, and closes all that it does not need', async () => {
    const fds = Array.from({ length: limits.messageDescriptors }, () => memfdOf(image));
    const numbers = fds.map((fd) => fd.number);
    const parameters = { image: { fileDescriptor: 252 }, signatures };
    expect(readFrom(await client.call('Mount', parameters, numbers), 'hello')).toBe('hello\n');
    const none = await client.call('Mount', { image: { fileDescriptor: 253 }, signatures }, numbers);
    expect([none.error, none.parameters['parameter']]).toEqual([
      serviceError('InvalidParameter'),
      'image.fileDescriptor',
    ]);
    // Two messages of them in one: more than a message may have.
    const greedy = await connectAsRoot(host);
    greedy.send(Buffer.from('{"method":'), numbers);
    greedy.send(Buffer.from(`"${mount}"}`), numbers);
    expect(await greedy.receive()).toBeUndefined();
    greedy.close();
    for (const fd of fds) fd.close();
    await nothingHeld();
  });

  /** Sends all of `bytes`, unless the service ends the connection. */
  async function sendAll(to: RawClient, bytes: Uint8Array): Promise<boolean> {
    let from = 0;
    while (from < bytes.length) {
      await turn();
      try {
        from += to.send(bytes.subarray(from));
      } catch {
        return false;
      }
    }
    return true;
  }

  test('of 1 MiB is read, and one byte more ends the connection', async () => {
    const message = (bytes: number): Buffer => {
      const [head, tail] = [`{"method":"${mount}","parameters":{"image":{"name":"`, '"}}}'];
      return Buffer.from(`${head}${'x'.repeat(bytes - head.length - tail.length)}${tail}\0`);
    };
    const whole = await connectAsRoot(host);
    await sendAll(whole, message(limits.messageBytes));
    expect((await whole.receive())?.parameters['parameter']).toBe('image.name');
    whole.close();
    const long = await connectAsRoot(host);
    await sendAll(long, message(limits.messageBytes + 1));
    expect(await long.receive()).toBeUndefined();
    long.close();
    await nothingHeld();
  });

  test.each([
    ['half of a message', `{"method":"${mount}","para`],
    ['a message without its NUL', `{"method":"${mount}","parameters":{"image":{"fileDescriptor":0}}}`],
    ['nothing but a byte', '{'],
  ])('of which %s came gets no answer', async (_, text) => {
    for (const how of ['close', 'shutdown'] as const) {
      const gone = await connectAsRoot(host);
      using memfd = memfdOf(image);
      gone.send(Buffer.from(text), [memfd.number]);
      if (how === 'shutdown') {
        shutdownSocket(gone.socket.number, 'write');
        expect(await gone.receive()).toBeUndefined();
      }
      gone.close();
    }
    await nothingHeld();
  });

  test('that is no varlink ends its connection, and what came with it is closed', async () => {
    for (const text of [
      '',
      '[]',
      'null',
      '{}',
      '{"method":1}',
      '{"method":"x","parameters":[]}',
      '{"method":"x"',
    ]) {
      const bad = await connectAsRoot(host);
      using memfd = memfdOf(image);
      bad.send(Buffer.from(`${text}\0`), [memfd.number]);
      expect(await bad.receive(), text).toBeUndefined();
      bad.close();
    }
    await nothingHeld();
    expect(host.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([]);
  });

  test('behind a sound one leaves that one its answer', async () => {
    const mixed = await connectAsRoot(host);
    using memfd = memfdOf(image);
    const parameters = { image: { fileDescriptor: 0 }, signatures };
    mixed.send(Buffer.from(`${JSON.stringify({ method: mount, parameters })}\0{"method":1}\0`), [
      memfd.number,
    ]);
    const reply = await mixed.receive();
    if (reply === undefined) throw new Error('the service ended the connection');
    expect(readFrom(reply, 'hello')).toBe('hello\n');
    expect(await mixed.receive()).toBeUndefined();
    mixed.close();
    await nothingHeld();
  });

  test('that wants no answer, or several, or the connection, leaks nothing', async () => {
    for (const flag of ['oneway', 'more', 'upgrade']) {
      for (const method of ['Mount', 'Verify']) {
        using memfd = memfdOf(image);
        const parameters = { image: { fileDescriptor: 0 }, signatures };
        const call = { method: `${interfaceName}.${method}`, parameters, [flag]: true };
        client.send(Buffer.from(`${JSON.stringify(call)}\0`), [memfd.number]);
        if (flag === 'oneway') continue;
        const reply = await client.receive();
        if (reply === undefined) throw new Error('the service ended the connection');
        drop(reply);
        expect(reply.error).toBe(flag === 'more' ? undefined : serviceError('InvalidParameter'));
        expect(reply.continues).toBe(false);
      }
    }
    await nothingHeld();
  });
});
