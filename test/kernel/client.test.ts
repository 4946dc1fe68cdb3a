import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MountDelegationClient } from '../../src/client/client.ts';
import {
  connect,
  DigestMismatch,
  KeyNotTrusted,
  NotSigned,
  openImmutableImage,
  ServiceUnreachable,
  VarlinkError,
} from '../../src/client/client.ts';
import type { Place } from '../support/hosting.ts';
import { digestOf, Host, makePlace, Signer, smallImage } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('the client library', () => {
  let place: Place;
  let host: Host;
  const signer = new Signer();
  const image = smallImage({ hello: 'hello from the image\n' });
  const digest = digestOf(image);
  const file = (name: string): string => join(place.folder, name);

  beforeAll(async () => {
    place = makePlace('client');
    mkdirSync(file('images'));
    for (const name of ['images/installed.cfs', 'a.cfs', 'unsigned.cfs']) writeFileSync(file(name), image);
    for (const name of ['images/installed.cfs', 'a.cfs']) {
      writeFileSync(file(`${name}.sig`), signer.sign(digest, 'example/hello', { version: 1 }));
    }
    host = await Host.start({
      folder: place.folder,
      policy: {
        '10.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${file('images')}"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
verity = "never"
`,
      },
      keys: { 'site.pub': signer.publicPem },
    });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  const client = (): Promise<MountDelegationClient> => connect(host.socketPath);

  test('mounts a file with its signature, a descriptor, and an installed image', async () => {
    using service = await client();
    using sealed = openImmutableImage(file('a.cfs')).fd;
    const signatures = [file('a.cfs.sig'), readFileSync(file('a.cfs.sig'))];
    const calls = await Promise.all([
      service.mount({ image: { path: file('a.cfs') }, attributes: ['noexec'] }),
      service.mount({ image: { fd: sealed.number }, signatures, digest }),
      service.mount({ image: { name: 'installed' }, fileSystem: 'composefs', verity: 'never' }),
    ]);
    for (const { mount, evidence } of calls) {
      using owned = mount;
      expect(readFileSync(`/proc/self/fd/${owned.number}/hello`, 'utf8')).toBe('hello from the image\n');
      expect(evidence).toEqual({
        digest,
        name: 'example/hello',
        version: 1,
        signers: ['site'],
        rule: 'signed',
      });
    }
    expect(calls[0].attributes).toEqual(['ro', 'nosuid', 'nodev', 'noexec']);
  });

  test('asks for decisions', async () => {
    using service = await client();
    expect(await service.verify({ image: { path: file('a.cfs') } })).toMatchObject({
      digest,
      rule: 'signed',
    });
    expect((await service.describe()).fileSystems).toContain('composefs');
    expect((await service.reload()).policyDigest).toMatch(/^sha256:/);
  });

  test('throws the classes of the errors', async () => {
    using service = await client();
    const refused = (options: Parameters<MountDelegationClient['mount']>[0]): Promise<unknown> =>
      service.mount(options).then(
        () => 'mounted',
        (error: unknown) => error,
      );
    const unsigned = { path: file('unsigned.cfs') };
    expect(await refused({ image: unsigned })).toBeInstanceOf(NotSigned);
    const foreign = new Signer().sign(digest, 'example/hello');
    const untrusted = await refused({ image: unsigned, signatures: [foreign] });
    expect(untrusted).toBeInstanceOf(KeyNotTrusted);
    expect(untrusted).toBeInstanceOf(VarlinkError);
    const other = `sha256:${'0'.repeat(64)}`;
    expect(await refused({ image: { path: file('a.cfs') }, digest: other })).toMatchObject({
      constructor: DigestMismatch,
      parameters: { expected: other, found: digest },
    });
    expect(await refused({ image: { path: file('none') } })).toMatchObject({
      syscall: 'openat',
      code: 'ENOENT',
    });
    expect(await refused({ image: { name: '../x' } })).toMatchObject({
      name: 'org.varlink.service.InvalidParameter',
    });
    expect(await refused({ image: { fd: 3, path: 'x' } })).toBeInstanceOf(TypeError);
  });

  test('a service that is not there', async () => {
    await expect(connect(file('none'))).rejects.toThrow(ServiceUnreachable);
    await expect(connect(file('a.cfs'))).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(connect('')).rejects.toThrow(TypeError);
  });

  test('calls under way are rejected by close, and later ones', async () => {
    const service = await client();
    const call = service.describe();
    service.close();
    await expect(call).rejects.toThrow(/closed/);
    await expect(service.describe()).rejects.toThrow(/closed/);
    service.close();
  });

  test('no descriptor is left behind', async () => {
    const open = (): string[] => readdirSync('/proc/self/fd');
    const round = async (): Promise<void> => {
      using service = await client();
      (await service.mount({ image: { path: file('a.cfs') } })).mount.close();
      await service.verify({ image: { name: 'installed' }, stores: [] });
      await expect(service.mount({ image: { path: file('unsigned.cfs') } })).rejects.toThrow();
      await expect(
        service.mount({ image: { path: file('a.cfs') }, stores: [{ path: '/nowhere' }] }),
      ).rejects.toThrow();
      await expect(
        service.mount({ image: { path: file('a.cfs') }, stores: [{ path: '/etc' }] }),
      ).rejects.toThrow();
    };
    await round();
    const before = open().length;
    for (let count = 0; count < 5; count++) await round();
    expect(open()).toHaveLength(before);
  });
});
