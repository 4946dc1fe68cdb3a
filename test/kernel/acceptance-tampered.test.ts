import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import type { JsonObject } from '../../src/varlink/message.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawClient } from '../support/raw-client.ts';
import { imageOf } from '../support/trees.ts';
import { callWithImage, connectAs, connectAsRoot, drop, errorName } from './acceptance-room.ts';

/** Directories, files within the image, links, attributes, a whiteout, and enough entries for several blocks. */
const image = imageOf(
  '/hello 6 100644 1 0 0 0 0.0 - hello\\n -',
  '/link 5 120777 1 0 0 0 0.0 hello - -',
  '/gone 0 20000 1 0 0 0 0.0 - - -',
  '/attributes 0 100644 1 0 0 0 0.0 - - - user.one=first user.two=second',
  '/folder 4096 40755 2 7 8 0 1.5 - - -',
  ...Array.from({ length: 300 }, (_, index) => `/folder/entry-${index} 2 100600 1 0 0 0 0.0 - x\\n -`),
);
const digest = digestOf(image);

/** Offsets around every slot of the superblock and the first inodes, and others all over the image. */
function offsets(): number[] {
  const chosen = new Set<number>([0, 1, image.length - 1]);
  for (const near of [28, 32, 1024, 1024 + 128, 4096, 8192, image.length - 4096]) {
    for (const offset of [near - 1, near, near + 1]) chosen.add(offset);
  }
  for (let offset = 1024; offset < 1024 + 128; offset += 4) chosen.add(offset);
  for (let offset = 1152; offset < 1152 + 2048; offset += 32) chosen.add(offset);
  const step = Math.floor(image.length / 190);
  for (let offset = 7; offset < image.length; offset += step) chosen.add(offset);
  const sorted = [...chosen].filter((offset) => offset >= 0 && offset < image.length).sort((a, b) => a - b);
  // A virtual machine is several times slower, and its kernel is not asked anyway.
  return process.env['CFS_VM'] === undefined ? sorted : sorted.filter((_, index) => index % 8 === 0);
}

const ways: readonly { readonly what: string; readonly tamper: (offset: number) => Uint8Array }[] = [
  { what: 'truncated', tamper: (offset) => image.subarray(0, offset) },
  {
    what: 'changed in one bit',
    tamper: (offset) => {
      const bytes = Buffer.from(image);
      bytes[offset] = (bytes[offset] ?? 0) ^ (1 << (offset & 7));
      return bytes;
    },
  },
];

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('an image that was tampered with', () => {
  let place: Place;
  let host: Host;
  let root: RawClient;
  let user: RawClient;
  const signer = new Signer();
  const signature = signer.sign(digest, 'example/image');
  const signatures = [toBase64(signature)];
  const installed = (): string => join(place.folder, 'images', 'image.cfs');

  /** Puts an image in place of the installed one, as an update would. */
  function install(bytes: Uint8Array): void {
    writeFileSync(`${installed()}.new`, bytes);
    renameSync(`${installed()}.new`, installed());
  }

  beforeAll(async () => {
    place = makePlace('acceptance-tampered');
    mkdirSync(join(place.folder, 'images'), { mode: 0o755 });
    install(image);
    writeFileSync(`${installed()}.sig`, signature);
    const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${join(place.folder, 'images')}"
[[rules]]
name = "signed"
users = ["root"]
signed-by = ["site"]
verity = "never"
[[rules]]
name = "unsigned"
users = ["root"]
unsigned = true
verity = "never"
[[rules]]
name = "pinned"
users = ["1000"]
digests = ["${digest}"]
verity = "never"
`;
    host = await Host.start({
      folder: place.folder,
      policy: { '10.toml': policy },
      keys: { 'site.pub': signer.publicPem },
    });
    root = await connectAsRoot(host);
    user = connectAs(host, 1000);
  });
  afterAll(async () => {
    root.close();
    user.close();
    await host.stop();
    place.remove();
  });

  async function mounts(client: RawClient, parameters: JsonObject = {}): Promise<void> {
    const replies = [await callWithImage(client, 'Mount', image, parameters)];
    install(image);
    replies.push(await client.call('Mount', { image: { name: 'image' } }));
    for (const reply of replies) {
      expect(reply.error).toBeUndefined();
      drop(reply);
    }
  }

  test.each(ways)('is refused as a memfd, $what', async ({ tamper }) => {
    for (const offset of offsets()) {
      const bytes = tamper(offset);
      const where = `byte ${offset}`;
      const signed = await callWithImage(root, 'Mount', bytes, { signatures });
      expect(signed.error, where).toBe(errorName('SignatureInvalid'));
      const unsigned = await callWithImage(root, 'Mount', bytes);
      expect(unsigned.error, where).toBe(errorName('NotSigned'));
      const named = await callWithImage(root, 'Mount', bytes, { signatures, digest, allowUnsigned: true });
      expect(named.error, where).toBe(errorName('DigestMismatch'));
      const pinned = await callWithImage(user, 'Mount', bytes);
      expect(pinned.error, where).toBe(errorName('DeniedByPolicy'));
    }
    await mounts(root, { signatures });
    await mounts(user);
  });

  test.each(ways)('is refused as an installed image, $what', async ({ tamper }) => {
    for (const offset of offsets()) {
      install(tamper(offset));
      const where = `byte ${offset}`;
      const signed = await root.call('Mount', { image: { name: 'image' } });
      expect(signed.error, where).toBe(errorName('SignatureInvalid'));
      const named = await root.call('Mount', { image: { name: 'image' }, digest, allowUnsigned: true });
      expect(named.error, where).toBe(errorName('DigestMismatch'));
      const pinned = await user.call('Mount', { image: { name: 'image' } });
      expect(pinned.error, where).toBe(errorName('DeniedByPolicy'));
    }
    const byDigest = await root.call('Mount', { image: { name: digest } });
    expect(byDigest.error).toBe(errorName('ImageNotFound'));
    await mounts(root, { signatures });
    await mounts(user);
  });

  test('is incompatible, truncated, where nobody had to sign it', async () => {
    for (const offset of offsets()) {
      const reply = await callWithImage(root, 'Mount', image.subarray(0, offset), { allowUnsigned: true });
      expect(reply.error, `byte ${offset}`).toBe(errorName('IncompatibleImage'));
    }
    await mounts(root, { signatures });
  });
});
