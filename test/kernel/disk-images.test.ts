import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { parseCertificate } from '../../src/trust/certificate.ts';
import { hasVerityTarget } from '../../src/sys/device-mapper.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { makeCertificate, newKey, pemOf } from '../support/certificates.ts';
import { makeDisk, sumTable, testUuid, type TestPartition } from '../support/disk-image.ts';
import { buildFileSystem, presentFileSystems } from '../support/file-systems.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';
import { mapperDevices, signedDisk, verityPair, wholeBlocks } from '../support/verity-partitions.ts';
import { memfdOf, until } from './acceptance-room.ts';

const available = isRoot && process.arch === 'x64';
const rootFileSystems = presentFileSystems(['squashfs', 'erofs', 'ext4']);
const withVerity = isRoot && hasVerityTarget();

const rootType = '4f68bce3-e8cd-4db1-96e7-fbcaf984b709';
const usrType = '8484680c-9521-48c6-9c11-b0720656f69e';

describe.skipIf(needs('kernel', available, 'only root can mount, and the images are for x86-64'))(
  'disk images',
  () => {
    let place: Place;
    let host: Host;
    let client: RawClient;
    const signer = new Signer();
    const vendorKey = newKey();
    const vendor = {
      key: vendorKey,
      certificate: parseCertificate(
        makeCertificate(vendorKey, vendorKey, { notAfter: new Date('2099-01-01T00:00:00Z') }),
      ),
    };
    const contents = new Map<string, Buffer>();

    beforeAll(async () => {
      place = makePlace('disk-images');
      const tree = join(place.folder, 'tree');
      mkdirSync(join(tree, 'etc'), { recursive: true });
      writeFileSync(join(tree, 'etc/os-release'), 'ID=test\n');
      writeFileSync(join(tree, 'large'), randomBytes(300_000));
      mkdirSync(join(place.folder, 'images'), { mode: 0o755 });
      for (const fileSystem of rootFileSystems) {
        const path = join(place.folder, fileSystem);
        buildFileSystem(fileSystem, tree, path);
        contents.set(fileSystem, wholeBlocks(readFileSync(path)));
      }
      host = await Host.start({
        folder: place.folder,
        policy: {
          '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${join(place.folder, 'images')}"
[[rules]]
name = "disk images"
images = ["example/**"]
signed-by = ["site"]
file-systems = ["ddi"]
unscanned = true
[[keys]]
id = "vendor"
file = "vendor.pub"
[[rules]]
name = "signed root hashes"
signed-by = ["vendor"]
formats = ["dmverity-pkcs7"]
file-systems = ["ddi"]
unscanned = true
`,
        },
        keys: { 'site.pub': signer.publicPem, 'vendor.pub': pemOf(vendor.certificate.der) },
      });
      client = host.connect();
    });

    afterAll(async () => {
      client.close();
      await host.stop();
      await until('no loop device is left', () => loopsOfPlace().length === 0);
      place.remove();
    });

    const loopsOfPlace = (): string[] => loopFiles().filter((path) => path.startsWith(place.folder));

    function content(fileSystem: string): Buffer {
      const found = contents.get(fileSystem);
      if (found === undefined) throw new Error(`no ${fileSystem} was made`);
      return found;
    }

    /** A disk whose partitions begin behind a table of 128 entries. */
    function diskOf(partitions: readonly TestPartition[], sectorBytes = 512): Buffer {
      const end = Math.max(...partitions.map(({ last }) => last));
      return makeDisk({ sectorBytes, blocks: end + 40, partitions });
    }

    function plain(fileSystem: string, sectorBytes = 512): TestPartition {
      const bytes = content(fileSystem);
      const last = 39 + bytes.length / sectorBytes;
      return { type: rootType, uuid: testUuid(1), first: 40, last, label: 'root', content: bytes };
    }

    function show(image: Uint8Array, name = 'example/disk'): Promise<RawReply> {
      using memfd = memfdOf(image);
      const signature = signer.sign(digestOf(image), name, { fileSystem: 'ddi' });
      const parameters = { image: { fileDescriptor: 0 }, signatures: [toBase64(signature)] };
      return client.call('Mount', parameters, [memfd.number]);
    }

    function mounted(reply: RawReply): OwnedFd {
      const [fd] = reply.fds;
      if (fd === undefined) throw new Error(`no mount came: ${JSON.stringify(reply)}`);
      return new OwnedFd(fd);
    }

    const readRelease = (mount: OwnedFd): string =>
      readFileSync(join(descriptorPath(mount.number), 'etc/os-release'), 'utf8');

    test.each(rootFileSystems)(
      'with %s in root: the partition is mounted, in either size of blocks',
      async (fileSystem) => {
        for (const sectorBytes of [512, 4096]) {
          using mount = mounted(await show(diskOf([plain(fileSystem, sectorBytes)], sectorBytes)));
          expect(readRelease(mount)).toBe('ID=test\n');
        }
      },
    );

    test('with usr and no root: what is mounted is what belongs at /usr', async () => {
      using mount = mounted(await show(diskOf([{ ...plain('squashfs'), type: usrType }])));
      expect(readRelease(mount)).toBe('ID=test\n');
    });

    test('Describe names them', async () => {
      const { parameters } = await client.call('Describe');
      expect(parameters['fileSystems']).toContain('ddi');
    });

    test('by name, as an installed file', async () => {
      const path = join(place.folder, 'images/disk.raw');
      const image = diskOf([plain('squashfs')]);
      writeFileSync(path, image);
      writeFileSync(`${path}.sig`, signer.sign(digestOf(image), 'example/installed', { fileSystem: 'ddi' }));
      try {
        using mount = mounted(await client.call('Mount', { image: { name: 'disk' } }));
        expect(readRelease(mount)).toBe('ID=test\n');
      } finally {
        rmSync(path);
        rmSync(`${path}.sig`);
      }
    });

    test('with hashes: dm-verity checks root where the kernel can, and nothing of it stays', async () => {
      const before = mapperDevices();
      const { root, verity } = verityPair(content('squashfs'), { salt: Buffer.alloc(32, 3), first: 40 });
      {
        using mount = mounted(await show(diskOf([root, verity])));
        expect(readRelease(mount)).toBe('ID=test\n');
        expect(readFileSync(join(descriptorPath(mount.number), 'large')).length).toBe(300_000);
        expect(mapperDevices()).toHaveLength(before.length + (withVerity ? 1 : 0));
      }
      expect((await client.call('Drop')).error).toBeUndefined();
      await until(
        'its devices are gone',
        () => mapperDevices().length === before.length && loopsOfPlace().length === 0,
      );
    });

    test.skipIf(!withVerity)(
      'with hashes that do not fit the data: the kernel reads none of it',
      async () => {
        const before = mapperDevices();
        const { root, verity } = verityPair(content('squashfs'), { salt: Buffer.alloc(32, 3), first: 40 });
        const wrong = Buffer.from(root.content);
        // A byte of the superblock that nothing of ours looks at.
        wrong.writeUInt8(wrong.readUInt8(8) ^ 1, 8);
        const reply = await show(diskOf([{ ...root, content: wrong }, verity]));
        expect(reply.error).toBe(`${interfaceName}.SystemError`);
        await until(
          'its devices are gone',
          () => mapperDevices().length === before.length && loopsOfPlace().length === 0,
        );
      },
    );

    const signed = (lies?: Parameters<typeof signedDisk>[2]): Buffer =>
      signedDisk(content('squashfs'), vendor, lies);

    function showAlone(image: Uint8Array): Promise<RawReply> {
      using memfd = memfdOf(image);
      return client.call('Mount', { image: { fileDescriptor: 0 }, fileSystem: 'ddi' }, [memfd.number]);
    }

    test('with its root hash signed by a certificate of the policy: mounted where dm-verity checks it, and nowhere else', async () => {
      const reply = await showAlone(signed());
      if (!withVerity) {
        expect(reply).toMatchObject({
          error: `${interfaceName}.KernelUnsupported`,
          parameters: {
            feature: expect.stringMatching(/dm-verity.*a signature of the whole file/) as string,
          },
        });
        return;
      }
      using mount = mounted(reply);
      expect(readRelease(mount)).toBe('ID=test\n');
      expect(host.audit.at(-1)).toMatchObject({ rule: 'signed root hashes', signers: ['vendor'] });
    });

    test('with a root hash that is signed, and data that is not what was hashed: none of it comes through', async () => {
      const data = Buffer.from(content('squashfs'));
      // A byte of the superblock that nothing of ours looks at.
      data.writeUInt8(data.readUInt8(8) ^ 1, 8);
      const reply = await showAlone(signed({ data }));
      expect(reply.error).toBe(`${interfaceName}.${withVerity ? 'SystemError' : 'KernelUnsupported'}`);
    });

    test('with a signature that is about another root hash: refused, and told why', async () => {
      const reply = await showAlone(signed({ stated: 'ab'.repeat(32) }));
      expect(reply).toMatchObject({
        error: `${interfaceName}.SignatureInvalid`,
        parameters: { reason: expect.stringContaining('about another root hash') as string },
      });
    });

    const root = (): TestPartition => plain('squashfs');
    const hostile: readonly [string, () => Buffer, string][] = [
      ['no table', () => content('squashfs'), 'no GUID partition table'],
      [
        'overlapping partitions',
        () => diskOf([root(), { ...root(), uuid: testUuid(2), first: 48 }]),
        'the partitions 1 and 2 overlap',
      ],
      [
        'two of a kind',
        () => {
          const { last } = root();
          return diskOf([
            root(),
            { ...root(), uuid: testUuid(2), first: last + 1, last: last + 8, content: Buffer.alloc(8) },
          ]);
        },
        'the partitions 1 and 2 are both root-x86-64',
      ],
      [
        'entries of 256 bytes',
        () => {
          const image = diskOf([root()]);
          for (const header of [512, image.length - 512]) image.writeUInt32LE(256, header + 84);
          sumTable(image);
          return image;
        },
        'entries of 256 bytes',
      ],
      [
        'a backup that says something else',
        () => {
          const image = diskOf([root()]);
          image.writeUInt8(1, image.length - 512 + 60);
          sumTable(image);
          return image;
        },
        'say different things',
      ],
      [
        'hashes of another image',
        () => {
          const { verity } = verityPair(Buffer.alloc(8192), {
            salt: Buffer.alloc(32, 3),
            first: root().last + 1,
          });
          return diskOf([root(), verity]);
        },
        'has the root hash',
      ],
      [
        'a usr partition beside root',
        () => {
          const first = root().last + 1;
          const usr = { ...root(), type: usrType, uuid: testUuid(2), first, last: first + 7 };
          return diskOf([root(), { ...usr, content: Buffer.alloc(8) }]);
        },
        'the partition 2 is a usr partition beside root, 1',
      ],
      [
        'no filesystem',
        () => diskOf([{ ...root(), content: Buffer.alloc(4096) }]),
        'no filesystem that is known',
      ],
    ];
    test.each(hostile)(
      '%s: refused by name, before the kernel sees anything',
      async (_name, make, reason) => {
        const before = loopsOfPlace().length;
        const reply = await show(make());
        expect(reply).toMatchObject({
          error: `${interfaceName}.IncompatibleImage`,
          parameters: { reason: expect.stringContaining(reason) as string },
        });
        expect(reply.parameters['reason']).toMatch(/\(at byte \d+\)$/);
        expect(loopsOfPlace().length).toBeLessThanOrEqual(before);
      },
    );
  },
);
