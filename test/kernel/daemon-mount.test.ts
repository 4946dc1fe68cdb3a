import { mkdirSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeFd, OwnedFd } from '../../src/sys/fd.ts';
import { addSeals, createMemfd, writeAll } from '../../src/sys/file.ts';
import { mountSetattr } from '../../src/sys/mount-calls.ts';
import { toBase64 } from '../../src/base/bytes.ts';
import {
  digestOf,
  Host,
  makePlace,
  Signer,
  smallImage,
  writePolicy,
  type Place,
} from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawReply } from '../support/raw-client.ts';

const error = (name: string): string => `${interfaceName}.${name}`;

/** A sealed memfd that holds `bytes`. */
function sealed(bytes: Uint8Array): OwnedFd {
  const memfd = createMemfd('image');
  writeAll(memfd.number, bytes);
  addSeals(memfd.number, ['write', 'grow', 'shrink', 'seal']);
  return memfd;
}

/** What the mount of a reply has under `name`; the mount is closed. */
function readMounted(reply: RawReply, name: string): string {
  const [fd] = reply.fds;
  if (fd === undefined) throw new Error(`no mount came: ${JSON.stringify(reply)}`);
  using mount = new OwnedFd(fd);
  return readFileSync(`/proc/self/fd/${mount.number}/${name}`, 'utf8');
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('a service', () => {
  let place: Place;
  let host: Host;
  const signer = new Signer();
  const stranger = new Signer();
  const image = smallImage({ hello: 'hello from the image\n' });
  const digest = digestOf(image);

  const policy = (images: string): string => `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${images}"
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
verity = "never"
`;

  beforeAll(async () => {
    place = makePlace('daemon-mount');
    const images = join(place.folder, 'images');
    mkdirSync(images, { mode: 0o755 });
    writeFileSync(join(images, 'installed.cfs'), image);
    writeFileSync(join(images, 'installed.cfs.sig'), signer.sign(digest, 'example/installed'));
    host = await Host.start({
      folder: place.folder,
      policy: { '10-site.toml': policy(images) },
      keys: { 'site.pub': signer.publicPem },
    });
  });

  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  test('mounts a sealed memfd that is signed', async () => {
    const client = host.connect();
    using memfd = sealed(image);
    const signatures = [toBase64(signer.sign(digest, 'example/memfd', { version: 3 }))];
    const reply = await client.call('Mount', { image: { fileDescriptor: 0 }, signatures }, [memfd.number]);
    expect(reply.error).toBeUndefined();
    expect(reply.parameters['evidence']).toEqual({
      digest,
      name: 'example/memfd',
      version: 3,
      signers: ['site'],
      rule: 'signed',
    });
    expect(reply.parameters['attributes']).toEqual(['ro', 'nosuid', 'nodev']);
    expect(reply.parameters['mountFileDescriptor']).toBe(0);
    expect(readMounted(reply, 'hello')).toBe('hello from the image\n');
    client.close();
  });

  test('mounts an installed image by name and by digest, again and again, on one connection', async () => {
    const client = host.connect();
    for (const name of ['installed', digest, 'installed', digest]) {
      const reply = await client.call('Mount', { image: { name } });
      expect(reply.error).toBeUndefined();
      expect(readMounted(reply, 'hello')).toBe('hello from the image\n');
    }
    client.close();
  });

  test('adds the attributes of the request, and lets the receiver clear none', async () => {
    const client = host.connect();
    const reply = await client.call('Mount', {
      image: { name: 'installed' },
      attributes: ['noexec', 'nosuid'],
    });
    expect(reply.parameters['attributes']).toEqual(['ro', 'nosuid', 'nodev', 'noexec']);
    using mount = new OwnedFd(reply.fds[0] ?? -1);
    for (const clear of [0x1, 0x2, 0x4, 0x8]) {
      // The mount's own namespace is anonymous: it is EINVAL before it is attached, and never a success.
      expect(() => {
        mountSetattr(mount.number, { clear, set: 0 });
      }).toThrow(/EPERM|EINVAL/);
    }
    client.close();
  });

  test('answers calls that were sent ahead in their order', async () => {
    const client = host.connect();
    const call = (method: string, parameters: object): string =>
      `${JSON.stringify({ method: `${interfaceName}.${method}`, parameters })}\0`;
    client.send(
      Buffer.from(
        call('Verify', { image: { name: 'installed' } }) +
          call('Describe', {}) +
          call('Mount', { image: { name: 'installed' } }) +
          call('Verify', { image: { name: 'absent' } }),
      ),
    );
    const replies = [
      await client.receive(),
      await client.receive(),
      await client.receive(),
      await client.receive(),
    ];
    expect(replies[0]?.parameters['evidence']).toMatchObject({ rule: 'signed' });
    expect(replies[1]?.parameters['version']).toBeDefined();
    if (replies[2] === undefined) throw new Error('the third reply is missing');
    expect(readMounted(replies[2], 'hello')).toBe('hello from the image\n');
    expect(replies[3]?.error).toBe(error('ImageNotFound'));
    client.close();
  });

  test.each([
    ['NotSigned', 'no signature', () => []],
    ['KeyNotTrusted', 'a key that the policy does not know', () => [stranger.sign(digest, 'example/x')]],
    [
      'SignatureInvalid',
      'a signature over another image',
      () => [signer.sign(digestOf(Buffer.from('x')), 'example/x')],
    ],
    [
      'Expired',
      'a statement whose time is over',
      () => [signer.sign(digest, 'example/x', { expires: new Date(0) })],
    ],
    ['DeniedByPolicy', 'a name that no rule lets in', () => [signer.sign(digest, 'elsewhere/x')]],
  ] as const)('refuses with %s what has %s', async (name, _what, files) => {
    const client = host.connect();
    using memfd = sealed(image);
    const signatures = files().map(toBase64);
    const before = host.audit.length;
    for (const method of ['Mount', 'Verify']) {
      const reply = await client.call(method, { image: { fileDescriptor: 0 }, signatures }, [memfd.number]);
      expect(reply.error).toBe(error(name));
      expect(reply.fds).toEqual([]);
    }
    await host.until('both refusals are in the log', () => host.audit.length >= before + 2);
    expect(host.audit.at(-1)).toMatchObject({ method: 'Verify', result: name, digest, user: 0 });
    client.close();
  });

  test('refuses a tampered image before the kernel sees it', async () => {
    const client = host.connect();
    const tampered = Uint8Array.from(image);
    tampered[tampered.length - 1] = 1;
    using memfd = sealed(tampered);
    const signatures = [toBase64(signer.sign(digest, 'example/memfd'))];
    const reply = await client.call('Mount', { image: { fileDescriptor: 0 }, signatures }, [memfd.number]);
    expect(reply.error).toBe(error('SignatureInvalid'));
    const named = await client.call('Mount', { image: { fileDescriptor: 0 }, digest, signatures }, [
      memfd.number,
    ]);
    expect(named.error).toBe(error('DigestMismatch'));
    expect(named.parameters).toEqual({ expected: digest, found: digestOf(tampered) });
    client.close();
  });

  test('lets root mount what is unsigned where root asks for it', async () => {
    const client = host.connect();
    using memfd = sealed(image);
    const parameters = { image: { fileDescriptor: 0 }, allowUnsigned: true };
    const reply = await client.call('Mount', parameters, [memfd.number]);
    expect(reply.error).toBeUndefined();
    expect(reply.parameters['evidence']).toEqual({ digest, signers: [], rule: 'unsigned for root' });
    reply.fds.forEach(closeFd);
    client.close();
  });

  test('writes one audit line for each decision', async () => {
    const client = host.connect();
    const before = host.audit.length;
    const reply = await client.call('Mount', { image: { name: 'installed' } });
    reply.fds.forEach(closeFd);
    await host.until('the line is there', () => host.audit.length > before);
    expect(host.audit.slice(before)).toEqual([
      expect.objectContaining({
        msg: 'audit',
        method: 'Mount',
        pid: process.pid,
        uid: 0,
        user: 0,
        digest,
        name: 'example/installed',
        signers: ['site'],
        rule: 'signed',
        result: 'allowed',
        milliseconds: expect.any(Number) as number,
      }),
    ]);
    client.close();
  });

  test('describes itself', async () => {
    const client = host.connect();
    const { parameters } = await client.call('Describe');
    expect(parameters['kernel']).toMatchObject({ erofsFromFile: true, lockedMounts: true });
    expect(parameters['fileSystems']).toContain('composefs');
    expect(parameters['limits']).toMatchObject({ messageBytes: 1024 * 1024, messageDescriptors: 253 });
    expect(parameters['policy']).toMatchObject({ digest: expect.stringMatching(/^sha256:/) as string });
    const info = await client.call('org.varlink.service.GetInfo');
    expect(info.parameters['interfaces']).toEqual([interfaceName, 'org.varlink.service']);
    client.close();
  });

  test('keeps no descriptor of what it refused or handed out', async () => {
    const client = host.connect();
    const open = (): number => readdirSync(`/proc/${host.pid}/fd`).length;
    const round = async (): Promise<void> => {
      using memfd = sealed(image);
      const signatures = [toBase64(signer.sign(digest, 'example/memfd'))];
      const fds = [memfd.number, memfd.number, memfd.number];
      const good = await client.call('Mount', { image: { fileDescriptor: 1 }, signatures }, fds);
      good.fds.forEach(closeFd);
      await client.call('Mount', { image: { fileDescriptor: 0 } }, fds);
      await client.call('Mount', { image: { fileDescriptor: 7 } }, fds);
      await client.call('Nonsense', {}, fds);
    };
    for (let count = 0; count < 5; count += 1) await round();
    const settled = open();
    for (let count = 0; count < 30; count += 1) await round();
    // Threads that were started meanwhile have a few of their own; what is looked for would be hundreds.
    await host.until(`about ${settled} descriptors are open`, () => open() <= settled + 30);
    const names = (): string[] =>
      readdirSync(`/proc/${host.pid}/fd`).map((fd) => readlinkOrNothing(`/proc/${host.pid}/fd/${fd}`));
    await host.until('no memfd is open', () => !names().some((name) => name.startsWith('/memfd:image')));
    client.close();
  });

  test('decides by a new policy from the moment that it is in force, and keeps the old one for a bad one', async () => {
    const client = host.connect();
    const images = join(place.folder, 'images');
    const before = await client.call('Describe');
    writePolicy(place.folder, { '10-site.toml': 'nonsense = [' }, { 'site.pub': signer.publicPem });
    const refused = await client.call('Reload');
    expect(refused.error).toBe(error('PolicyInvalid'));
    const kept = await client.call('Describe');
    expect(kept.parameters['policy']).toMatchObject({
      lastError: expect.stringContaining('10-site.toml') as string,
    });
    const held = await client.call('Mount', { image: { name: 'installed' } });
    expect(held.error).toBeUndefined();
    const revoking = `${policy(images)}\n[[revoked]]\ndigest = "${digest}"\n`;
    writePolicy(place.folder, { '10-site.toml': revoking }, { 'site.pub': signer.publicPem });
    const reloaded = await client.call('Reload');
    expect(reloaded.error).toBeUndefined();
    expect(reloaded.parameters['policyDigest']).not.toBe(
      (before.parameters['policy'] as { digest: string }).digest,
    );
    expect(reloaded.parameters['refusedNow']).toContainEqual(
      expect.objectContaining({ digest, rule: 'signed' }),
    );
    expect((await client.call('Mount', { image: { name: 'installed' } })).error).toBe(
      error('DeniedByPolicy'),
    );
    held.fds.forEach(closeFd);
    writePolicy(place.folder, { '10-site.toml': policy(images) }, { 'site.pub': signer.publicPem });
    expect((await client.call('Reload')).error).toBeUndefined();
    const again = await client.call('Mount', { image: { name: 'installed' } });
    expect(again.error).toBeUndefined();
    again.fds.forEach(closeFd);
    client.close();
  });

  test('asks anew who signed what is mounted, by the keys of the new policy', async () => {
    const client = host.connect();
    const images = join(place.folder, 'images');
    const other = smallImage({ hello: 'hello from another image\n' });
    using memfd = sealed(other);
    const files = [signer, stranger].map((each) => toBase64(each.sign(digestOf(other), 'example/other')));
    const parameters = { image: { fileDescriptor: 0 }, signatures: files };
    const held = await client.call('Mount', parameters, [memfd.number]);
    expect(held.error).toBeUndefined();
    const refusedUnder = async (publicPem: string): Promise<unknown> => {
      writePolicy(place.folder, { '10-site.toml': policy(images) }, { 'site.pub': publicPem });
      return (await client.call('Reload')).parameters['refusedNow'];
    };
    const listed: unknown = expect.objectContaining({ digest: digestOf(other) });
    // The policy of before did not know who made the second signature.
    expect(await refusedUnder(stranger.publicPem)).not.toContainEqual(listed);
    expect(await refusedUnder(new Signer().publicPem)).toContainEqual(listed);
    expect(await refusedUnder(signer.publicPem)).not.toContainEqual(listed);
    held.fds.forEach(closeFd);
    client.close();
  });
});

function readlinkOrNothing(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
