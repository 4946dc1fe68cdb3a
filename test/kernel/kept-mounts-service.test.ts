import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  connect,
  DeniedByPolicy,
  VarlinkError,
  type MountDelegationClient,
} from '../../src/client/client.ts';
import { fstat } from '../../src/sys/file.ts';
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

const tool = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))(
  'a service that keeps mounts',
  () => {
    let place: Place;
    let host: Host;
    let client: MountDelegationClient;
    const signer = new Signer();
    const image = smallImage({ hello: 'hello from the image\n' });
    const digest = digestOf(image);
    const keys = { 'site.pub': signer.publicPem };

    const policy = (more = ''): Record<string, string> => ({
      '10.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${join(place.folder, 'images')}"
[[rules]]
name = "signed"
users = ["*"]
signed-by = ["site"]
verity = "never"
${more}`,
    });

    beforeAll(async () => {
      place = makePlace('kept');
      mkdirSync(join(place.folder, 'images'), { mode: 0o755 });
      writeFileSync(join(place.folder, 'images/app.cfs'), image);
      writeFileSync(join(place.folder, 'images/app.cfs.sig'), signer.sign(digest, 'example/app'));
      host = await Host.start({ folder: place.folder, policy: policy(), keys });
      client = await connect(host.socketPath);
    });
    // A test that failed has left its own.
    beforeEach(async () => {
      writePolicy(place.folder, policy(), keys);
      await client.reload();
    });
    afterAll(async () => {
      client.close();
      await host.stop();
      place.remove();
    });

    const superblock = async (): Promise<bigint> => {
      const { mount } = await client.mount({ image: { name: 'app' } });
      using held = mount;
      return fstat(held.number).dev;
    };

    const clones = async (): Promise<boolean> => {
      const { kernel } = await client.describe();
      return !needs('kernel', kernel['lockedClones'] === true, 'clones of detached mounts (Linux 6.15)');
    };

    test('says what it keeps, and drops it', async () => {
      if (!(await clones())) return;
      const first = await superblock();
      expect(await superblock()).toBe(first);
      expect(await client.keptMounts()).toEqual([
        { digest, layer: true, unusedMilliseconds: expect.any(Number) as number },
        { digest, user: 0, layer: false, unusedMilliseconds: expect.any(Number) as number },
      ]);
      expect(await client.drop(`sha256:${'0'.repeat(64)}`)).toBe(0);
      expect(await client.drop(digest)).toBe(2);
      expect(await client.keptMounts()).toEqual([]);
      await superblock();
      expect(await client.drop()).toBe(2);
    });

    test('by the tool as well', async () => {
      if (!(await clones())) return;
      const run = (...parameters: string[]): { status: number | null; output: string } => {
        const words = [tool, ...parameters, '--socket', host.socketPath];
        const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
        return { status, output: stdout + stderr };
      };
      await superblock();
      expect(run('kept')).toMatchObject({
        status: 0,
        output: expect.stringMatching(
          new RegExp(
            `^${digest}  layer below its mounts.*\n${digest}  shared by the mounts of user 0, unused .*\n$`,
          ),
        ) as string,
      });
      expect(JSON.parse(run('kept', '--json').output)).toMatchObject({ mounts: [{ digest }, { digest }] });
      expect(run('drop', digest)).toEqual({ status: 0, output: '2 mounts dropped\n' });
      expect(run('drop', 'all of them').status).toBe(1);
    });

    test('decides anew for each mount: what is revoked is refused at once, kept or not', async () => {
      if (!(await clones())) return;
      await superblock();
      writePolicy(place.folder, policy(`[[revoked]]\ndigest = "${digest}"\n`), keys);
      // What is kept and in nobody's hands is not in use, and is not kept for long.
      expect((await client.reload()).refusedNow).toEqual([]);
      expect((await client.keptMounts()).filter(({ layer }) => !layer)).toEqual([]);
      await expect(superblock()).rejects.toThrow(DeniedByPolicy);
      writePolicy(place.folder, policy(), keys);
      await client.reload();
      const { mount } = await client.mount({ image: { name: 'app' } });
      using held = mount;
      writePolicy(place.folder, policy(`[[revoked]]\ndigest = "${digest}"\n`), keys);
      expect((await client.reload()).refusedNow).toMatchObject([{ digest, rule: 'signed' }]);
      expect(held.isOpen).toBe(true);
      await expect(superblock()).rejects.toThrow(VarlinkError);
    });

    test('decides anew for each mount: what has expired is refused, though it is kept', async () => {
      if (!(await clones())) return;
      const expires = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3000);
      writeFileSync(
        join(place.folder, 'images/app.cfs.sig'),
        signer.sign(digest, 'example/app', { expires }),
      );
      await superblock();
      await host.until('the statement has expired', () => Date.now() > expires.getTime() + 10);
      expect((await client.keptMounts()).length).toBeGreaterThan(0);
      await expect(superblock()).rejects.toThrow(/Expired/);
    });
  },
);
