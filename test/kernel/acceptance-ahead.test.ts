import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { shutdownSocket } from '../../src/sys/socket.ts';
import { Host, makePlace, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName } from '../support/raw-client.ts';
import { connectAsRoot, memfdOf, readFrom } from './acceptance-room.ts';

const mount = `${interfaceName}.Mount`;

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('calls that are sent ahead', () => {
  let place: Place;
  let host: Host;
  const images = Array.from({ length: 12 }, (_, index) => smallImage({ hello: `hello ${index}\n` }));

  beforeAll(async () => {
    place = makePlace('acceptance-ahead');
    const policy = `
[[rules]]
name = "unsigned"
users = ["root"]
unsigned = true
verity = "never"
`;
    host = await Host.start({ folder: place.folder, policy: { '10.toml': policy } });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  const call = Buffer.from(
    `${JSON.stringify({ method: mount, parameters: { image: { fileDescriptor: 0 }, allowUnsigned: true } })}\0`,
  );

  test('keep their own descriptors, and get their own mounts', async () => {
    const client = await connectAsRoot(host);
    for (const image of images) {
      using memfd = memfdOf(image);
      client.send(call, [memfd.number]);
    }
    for (const index of images.keys()) {
      const reply = await client.receive();
      if (reply === undefined) throw new Error('the service ended the connection');
      expect(readFrom(reply, 'hello')).toBe(`hello ${index}\n`);
    }
    client.close();
  });

  test('are the same in bits of every size, descriptors beside the first', async () => {
    const client = await connectAsRoot(host);
    for (const size of [1, 2, 7, call.length - 1, call.length]) {
      using memfd = memfdOf(images[0] ?? new Uint8Array());
      for (let from = 0; from < call.length; from += size) {
        client.send(call.subarray(from, from + size), from === 0 ? [memfd.number] : []);
      }
      const reply = await client.receive();
      if (reply === undefined) throw new Error('the service ended the connection');
      expect(readFrom(reply, 'hello')).toBe('hello 0\n');
    }
    client.close();
  });

  test('and then nothing more are answered', async () => {
    const client = await connectAsRoot(host);
    using memfd = memfdOf(images[0] ?? new Uint8Array());
    client.send(call, [memfd.number]);
    shutdownSocket(client.socket.number, 'write');
    const reply = await client.receive();
    if (reply === undefined) throw new Error('the service ended the connection');
    expect(readFrom(reply, 'hello')).toBe('hello 0\n');
    expect(await client.receive()).toBeUndefined();
    client.close();
  });
});
