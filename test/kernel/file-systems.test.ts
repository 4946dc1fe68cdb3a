import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  symlinkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { makeNamespaces } from '../../src/sys/idle-child.ts';
import { mountSetattr } from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import type { JsonObject } from '../../src/varlink/message.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import {
  builtFileSystems,
  buildFileSystem,
  presentFileSystems,
  runProgram,
  type BuiltFileSystem,
} from '../support/file-systems.ts';
import { loopFiles } from '../support/loop-files.ts';
import { Random } from '../support/random.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';
import { memfdOf, until } from './acceptance-room.ts';

const here = presentFileSystems(builtFileSystems);
const others = here.filter((fileSystem) => fileSystem !== 'erofs');

interface Made {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly signature: Uint8Array;
}

/** What a tree holds: a line for each name. */
function listTree(root: string, below = ''): string[] {
  return readdirSync(join(root, below))
    .filter((name) => name !== 'lost+found')
    .sort()
    .flatMap((name) => {
      const path = join(below, name);
      const { mode, uid, gid, size, rdev } = lstatSync(join(root, path));
      const type = mode & 0o170000;
      const line = `${path} ${mode.toString(8)} ${uid}:${gid}`;
      if (type === 0o040000) return [line, ...listTree(root, path)];
      if (type === 0o120000) return [`${line} -> ${readlinkSync(join(root, path))}`];
      if (type === 0o020000) return [`${line} ${rdev}`];
      const hash = createHash('sha256').update(readFileSync(join(root, path)));
      return [`${line} ${size} ${hash.digest('hex')}`];
    });
}

function plantTree(tree: string): void {
  mkdirSync(join(tree, 'folder/deep'), { recursive: true });
  writeFileSync(join(tree, 'hello'), 'hello\n');
  writeFileSync(join(tree, 'folder/deep/large'), Buffer.from('what compresses '.repeat(20_000)));
  writeFileSync(join(tree, 'folder/mine'), 'mine\n');
  chownSync(join(tree, 'folder/mine'), 1000, 1001);
  writeFileSync(join(tree, 'set-id'), '#!/bin/sh\n');
  chmodSync(join(tree, 'set-id'), 0o4755);
  symlinkSync('folder/mine', join(tree, 'link'));
}

const policy = (images: string): string => `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${images}"
[[rules]]
name = "scanned only"
images = ["scanned/**"]
signed-by = ["site"]
file-systems = ["erofs", "squashfs", "ext4", "xfs", "btrfs"]
[[rules]]
name = "every filesystem"
images = ["example/**"]
signed-by = ["site"]
file-systems = ["erofs", "squashfs", "ext4", "xfs", "btrfs"]
unscanned = true
`;

const error = (name: string): string => `${interfaceName}.${name}`;

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('images of every filesystem', () => {
  let place: Place;
  let host: Host;
  let client: RawClient;
  const signer = new Signer();
  const made = new Map<BuiltFileSystem, Made>();
  const tree = (): string => join(place.folder, 'tree');

  function of(fileSystem: BuiltFileSystem): Made {
    const found = made.get(fileSystem);
    if (found === undefined) throw new Error(`no ${fileSystem} image was made`);
    return found;
  }

  beforeAll(async () => {
    place = makePlace('file-systems');
    const images = join(place.folder, 'images');
    mkdirSync(images, { mode: 0o755 });
    mkdirSync(tree());
    plantTree(tree());
    for (const fileSystem of here) {
      if (fileSystem !== 'erofs' && !readdirSync(tree()).includes('zero'))
        runProgram('mknod', join(tree(), 'zero'), 'c', '1', '5');
      const path = join(images, `${fileSystem}.raw`);
      buildFileSystem(fileSystem, tree(), path);
      const bytes = readFileSync(path);
      const signature = signer.sign(digestOf(bytes), `example/${fileSystem}`, { fileSystem });
      writeFileSync(`${path}.sig`, signature);
      made.set(fileSystem, { path, bytes, signature });
    }
    host = await Host.start({
      folder: place.folder,
      policy: { '10-site.toml': policy(images) },
      keys: { 'site.pub': signer.publicPem },
    });
    client = host.connect();
  });

  afterAll(async () => {
    client.close();
    await host.stop();
    await until('no loop device is left', () => loopsOfPlace().length === 0);
    place.remove();
  });

  /** Files below the place, and files without a name, that loop devices show. */
  function loopsOfPlace(): string[] {
    return loopFiles().filter((path) => path.startsWith(place.folder));
  }

  function show(
    bytes: Uint8Array,
    signature: Uint8Array,
    more: JsonObject = {},
    fds: readonly number[] = [],
  ): Promise<RawReply> {
    using memfd = memfdOf(bytes);
    const parameters = { image: { fileDescriptor: 0 }, signatures: [toBase64(signature)], ...more };
    return client.call('Mount', parameters, [memfd.number, ...fds]);
  }

  function mounted(reply: RawReply): OwnedFd {
    const [fd] = reply.fds;
    if (fd === undefined) throw new Error(`no mount came: ${JSON.stringify(reply)}`);
    return new OwnedFd(fd);
  }

  /** The images of EROFS hold no device node, and mkfs.btrfs 6.2 forgets the number of one. */
  function expected(fileSystem: BuiltFileSystem): string[] {
    const lines = listTree(tree());
    if (fileSystem === 'erofs') return lines.filter((line) => !line.startsWith('zero '));
    return fileSystem === 'btrfs' ? lines.map(withoutNumber) : lines;
  }

  const withoutNumber = (line: string): string => line.replace(/^(zero .*) \d+$/, '$1');

  describe.each(here)('%s', (fileSystem) => {
    test.each(['memfd', 'name'] as const)(
      'by %s shows what went into it, and nothing is let loose',
      async (by) => {
        const { bytes, signature } = of(fileSystem);
        const reply =
          by === 'memfd'
            ? await show(bytes, signature)
            : await client.call('Mount', { image: { name: fileSystem } });
        using mount = mounted(reply);
        const root = descriptorPath(mount.number);
        const shown = listTree(root);
        expect(fileSystem === 'btrfs' ? shown.map(withoutNumber) : shown).toEqual(expected(fileSystem));
        expect(reply.parameters['attributes']).toEqual(['ro', 'nosuid', 'nodev']);
        for (const clear of [0x1, 0x2, 0x4])
          expect(() => {
            mountSetattr(mount.number, { clear });
          }).toThrow(expect.objectContaining({ code: 'EPERM' }));
        expect(() => {
          writeFileSync(join(root, 'new'), '');
        }).toThrow(expect.objectContaining({ code: 'EROFS' }));
        if (fileSystem !== 'erofs')
          expect(() => openSync(join(root, 'zero'), 'r')).toThrow(
            expect.objectContaining({ code: 'EACCES' }),
          );
      },
    );

    test('twice at once, and by a second user beside the first', async () => {
      const { bytes, signature } = of(fileSystem);
      using one = mounted(await show(bytes, signature));
      using two = mounted(await show(bytes, signature));
      using three = mounted(await client.call('Mount', { image: { name: fileSystem } }));
      for (const mount of [one, two, three])
        expect(readFileSync(join(descriptorPath(mount.number), 'hello'), 'utf8')).toBe('hello\n');
    });

    test('shows the IDs of a user namespace', async () => {
      const { user, mount: namespace } = makeNamespaces();
      namespace.close();
      using owned = user;
      const more = { idMap: 'userNamespace', userNamespaceFileDescriptor: 1 };
      const { bytes, signature } = of(fileSystem);
      const reply = await show(bytes, signature, more, [owned.number]);
      // Before Linux 6.2 squashfs cannot; then that is what is said.
      if (reply.error !== undefined) {
        expect(reply).toMatchObject({
          error: error('KernelUnsupported'),
          parameters: { feature: expect.stringContaining('ID-mapped') as string },
        });
        return;
      }
      using mount = mounted(reply);
      expect(lstatSync(join(descriptorPath(mount.number), 'folder/mine')).uid).toBe(1000);
    });

    test('an image whose signature names another filesystem is refused by name', async () => {
      const { bytes } = of(fileSystem);
      const said = fileSystem === 'squashfs' ? 'ext4' : 'squashfs';
      const signature = signer.sign(digestOf(bytes), 'example/wrong', { fileSystem: said });
      const before = loopsOfPlace();
      const reply = await show(bytes, signature);
      expect(reply).toMatchObject({
        error: error('IncompatibleImage'),
        parameters: { reason: `there is no ${said} superblock: it looks like ${fileSystem}` },
      });
      // Those of tests before may still be on their way out.
      expect(before).toEqual(expect.arrayContaining(loopsOfPlace()));
    });

    test('a client cannot say that it is another', async () => {
      const { bytes, signature } = of(fileSystem);
      const fileSystems = builtFileSystems.filter((other) => other !== fileSystem);
      for (const other of fileSystems) {
        const reply = await show(bytes, signature, { fileSystem: other });
        expect(reply.error).toBe(error('IncompatibleImage'));
        expect(reply.parameters['reason']).toContain(`the signature states ${fileSystem}`);
      }
    });
  });

  test.each(others)('%s is refused by a rule that does not say that nodev is enough', async (fileSystem) => {
    const { bytes } = of(fileSystem);
    const reply = await show(bytes, signer.sign(digestOf(bytes), 'scanned/image', { fileSystem }));
    expect(reply.error).toBe(error('DeniedByPolicy'));
    expect(reply.parameters['reason']).toMatch(/device nodes .*\(unscanned\)/);
  });

  test('Describe names those that the kernel has and a rule lets in', async () => {
    const { parameters } = await client.call('Describe');
    expect(parameters['fileSystems']).toEqual(expect.arrayContaining([...here]));
    expect(parameters['fileSystems']).toHaveLength(here.length + 1);
  });

  /** Images of xfs and btrfs have 16 MiB, and take their time to be hashed: CFS_LONG makes it two hundred of all. */
  function mutationsOf(fileSystem: BuiltFileSystem): number {
    if (process.env['CFS_VM'] !== undefined) return 10;
    const large = fileSystem === 'xfs' || fileSystem === 'btrfs';
    return large && process.env['CFS_LONG'] === undefined ? 10 : 200;
  }

  test.each(here.map((fileSystem) => [mutationsOf(fileSystem), fileSystem] as const))(
    '%i mutations of %s are refused before the kernel sees them',
    { timeout: 300_000 },
    async (mutations, fileSystem) => {
      const { bytes, signature } = of(fileSystem);
      const before = loopsOfPlace();
      const random = new Random(8);
      for (let round = 0; round < mutations; round++) {
        const mutated = Buffer.from(bytes);
        const offset = random.below(mutated.length);
        mutated[offset] = (mutated[offset] ?? 0) ^ (1 + random.below(255));
        const reply = await show(mutated, signature, { fileSystem });
        expect(reply.error, `seed ${random.seed}, round ${round}`).toBe(error('SignatureInvalid'));
      }
      // Those of tests before may still be on their way out.
      expect(before).toEqual(expect.arrayContaining(loopsOfPlace()));
    },
  );

  test('what the kernel refuses is an error with its words, and leaves nothing', async () => {
    const { bytes } = of('squashfs');
    const broken = Buffer.from(bytes);
    // Where the table of inodes begins: beyond the end.
    broken.writeBigUInt64LE(1n << 40n, 64);
    const before = loopsOfPlace();
    const signature = signer.sign(digestOf(broken), 'example/broken', { fileSystem: 'squashfs' });
    const reply = await show(broken, signature);
    expect(reply.error).toBe(error('SystemError'));
    await until('its loop device is free', () => loopsOfPlace().length <= before.length);
  });

  // A filesystem that is copied while it is in use has work left in its journal.
  test.each(others.filter((fileSystem) => fileSystem === 'ext4' || fileSystem === 'xfs'))(
    '%s with a dirty journal is not changed by a byte',
    async (fileSystem) => {
      const used = join(place.folder, `used.${fileSystem}`);
      const image = join(place.folder, 'images', `dirty-${fileSystem}.raw`);
      const script = `
set -e
mkdir -p "$1.at"; cp "${of(fileSystem).path}" "$1"; mount -t ${fileSystem} -o loop "$1" "$1.at"
echo more > "$1.at/more"; sync -f "$1.at"; rm "$1.at/folder/mine"; cat "$1.at/hello" > /dev/null
sync -f "$1.at"; sync "$1"; cp "$1" "$2"; umount "$1.at"`;
      const { status, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', used, image], {
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      expect(status).toBe(0);
      const before = readFileSync(image);
      writeFileSync(
        `${image}.sig`,
        signer.sign(digestOf(before), 'example/dirty', { fileSystem: fileSystem as BuiltFileSystem }),
      );
      if (fileSystem === 'ext4') expect(runProgram('dumpe2fs', '-h', image)).toContain('needs_recovery');
      const reply = await client.call('Mount', { image: { name: `dirty-${fileSystem}` } });
      {
        using mount = mounted(reply);
        expect(readFileSync(join(descriptorPath(mount.number), 'hello'), 'utf8')).toBe('hello\n');
        listTree(descriptorPath(mount.number));
      }
      expect((await client.call('Drop')).error).toBeUndefined();
      await until('its loop device is free', () => !loopFiles().includes(image));
      expect(Buffer.compare(readFileSync(image), before)).toBe(0);
    },
  );
});
