import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { parseDigest, type Digest } from '../../src/base/digest.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { enableVerity } from '../../src/sys/verity.ts';
import { Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawReply } from '../support/raw-client.ts';

const program = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

function ctl(...parameters: string[]): string {
  const result = spawnSync(process.execPath, [program, ...parameters], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
  return result.stdout.trim();
}

/** Whether files of this place can have fs-verity. */
function hasVerity(): boolean {
  if (!isRoot) return false;
  const place = makePlace('verity-probe');
  const path = join(place.folder, 'file');
  writeFileSync(path, 'probe');
  const fd = openSync(path, 'r');
  try {
    return enableVerity(fd);
  } finally {
    closeSync(fd);
    place.remove();
  }
}

/** The path of every file below a folder. */
function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

describe.skipIf(needs('kernel', hasVerity(), 'fs-verity is not here'))(
  'a store whose files the kernel checks',
  () => {
    let place: Place;
    let host: Host;
    let digest: Digest;
    let image: string;
    let objects: string;
    const signer = new Signer();
    const contents = { one: 'first '.repeat(4000), two: 'second '.repeat(4000) };

    beforeAll(() => {
      place = makePlace('verity');
    });

    beforeEach(async () => {
      const { folder } = place;
      for (const name of ['tree', 'images', 'objects']) {
        rmSync(join(folder, name), { recursive: true, force: true });
        mkdirSync(join(folder, name));
      }
      objects = join(folder, 'objects');
      image = join(folder, 'images', 'tree.cfs');
      for (const [name, text] of Object.entries(contents)) writeFileSync(join(folder, 'tree', name), text);
      const built = parseDigest(ctl('build', join(folder, 'tree'), '--store', objects, '--output', image));
      if (built === undefined) throw new Error('build printed no digest');
      digest = built;
      writeFileSync(`${image}.sig`, signer.sign(digest, 'example/tree'));
      host = await Host.start({
        folder,
        policy: {
          '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[stores]]
name = "objects"
path = "${objects}"
verity = "require"
[[image-directories]]
path = "${folder}/images"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
stores = ["objects"]
client-stores = true
`,
        },
        keys: { 'site.pub': signer.publicPem },
      });
      return async () => {
        await host.stop();
      };
    });

    afterAll(() => {
      place.remove();
    });

    async function mounted(
      parameters: Parameters<ReturnType<Host['connect']>['call']>[1] = { image: { name: 'tree' } },
      fds: readonly number[] = [],
    ): Promise<RawReply> {
      const client = host.connect();
      try {
        return await client.call('Mount', parameters, fds);
      } finally {
        client.close();
      }
    }

    async function withMount<Result>(work: (folder: string) => Result, reply = mounted()): Promise<Result> {
      const { fds, error, parameters } = await reply;
      const [fd] = fds;
      if (fd === undefined) throw new Error(`${error ?? ''} ${JSON.stringify(parameters)}`);
      using mount = new OwnedFd(fd);
      return work(`/proc/self/fd/${mount.number}`);
    }

    /** The object that holds the text. */
    function objectWith(text: string): string {
      const found = files(objects).find((path) => readFileSync(path, 'utf8') === text);
      if (found === undefined) throw new Error('no such object');
      return found;
    }

    test('files are read through the mount', async () => {
      await withMount((folder) => {
        expect(readFileSync(join(folder, 'one'), 'utf8')).toBe(contents.one);
        expect(readFileSync(join(folder, 'two'), 'utf8')).toBe(contents.two);
      });
    });

    test('an object that is another file with fs-verity fails at open, and only that file', async () => {
      const other = join(place.folder, 'other');
      writeFileSync(other, 'something else '.repeat(2000));
      const fd = openSync(other, 'r');
      expect(enableVerity(fd)).toBe(true);
      closeSync(fd);
      await withMount((folder) => {
        renameSync(other, objectWith(contents.one));
        expect(() => openSync(join(folder, 'one'), 'r')).toThrow(/EIO/);
        expect(readFileSync(join(folder, 'two'), 'utf8')).toBe(contents.two);
      });
    });

    test('an object that is changed on the disk, behind the filesystem’s back, fails when it is read', async () => {
      const object = objectWith(contents.one);
      spawnSync('sync');
      const device = spawnSync('findmnt', ['--noheadings', '--output', 'SOURCE', '--target', object], {
        encoding: 'utf8',
      });
      const map = spawnSync('filefrag', ['-v', '-b4096', object], { encoding: 'utf8' });
      const block = /^\s*0:\s+0\.\.\s*\d+:\s+(\d+)\.\./m.exec(map.stdout)?.[1];
      if (block === undefined)
        throw new Error(`where the object lies is not known: ${map.stdout}${map.stderr}`);
      const path = device.stdout.trim().replace(/^dev\//, '/dev/');
      const disk = openSync(path, 'r+');
      writeSync(disk, 'changed', Number(block) * 4096);
      closeSync(disk);
      spawnSync('sync');
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      await withMount((folder) => {
        expect(() => readFileSync(join(folder, 'one'))).toThrow(/EIO/);
        expect(readFileSync(join(folder, 'two'), 'utf8')).toBe(contents.two);
      });
    });

    test('an object without fs-verity is named before anything is mounted', async () => {
      const object = objectWith(contents.one);
      copyFileSync(object, join(place.folder, 'plain'));
      renameSync(join(place.folder, 'plain'), object);
      const reply = await mounted();
      expect(reply.error).toBe(`${interfaceName}.ObjectsMissing`);
      expect(reply.parameters).toMatchObject({ count: 1, objects: [object.slice(objects.length + 1)] });
    });

    test('an image file with fs-verity is taken as it is, and a plain one is not', async () => {
      const own = join(place.folder, 'own.cfs');
      copyFileSync(image, own);
      const signatures = [toBase64(signer.sign(digest, 'example/own'))];
      const fd = openSync(own, 'r');
      const plain = await mounted({ image: { fileDescriptor: 0 }, signatures }, [fd]);
      expect(plain.error).toBe(`${interfaceName}.ImageNotImmutable`);
      expect(enableVerity(fd)).toBe(true);
      await withMount(
        (folder) => {
          expect(readFileSync(join(folder, 'one'), 'utf8')).toBe(contents.one);
        },
        mounted({ image: { fileDescriptor: 0 }, signatures }, [fd]),
      );
      closeSync(fd);
    });

    test('a store of the client’s', async () => {
      const store = join(place.folder, 'client-store');
      renameSync(objects, store);
      mkdirSync(objects);
      const fd = openSync(store, 'r');
      await withMount(
        (folder) => {
          expect(existsSync(join(folder, 'one'))).toBe(true);
          expect(readFileSync(join(folder, 'one'), 'utf8')).toBe(contents.one);
        },
        mounted({ image: { name: 'tree' }, storeFileDescriptors: [0] }, [fd]),
      );
      closeSync(fd);
      rmSync(store, { recursive: true });
    });
  },
);
