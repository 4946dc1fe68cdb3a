import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { hasFileSystem } from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import type { FileSystem } from '../../src/trust/file-system.ts';
import { memfdOf } from '../kernel/acceptance-room.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { absent, isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';
import { sid, sidMissing } from '../support/sid.ts';

const ready =
  isRoot && sid('mkfs.erofs') !== undefined && hasFileSystem('squashfs') && hasFileSystem('erofs');

describe.skipIf(needs('interop', ready, isRoot ? sidMissing : 'only root can mount'))(
  'every compression that the makers of images know',
  () => {
    let place: Place;
    let host: Host;
    let client: RawClient;
    const signer = new Signer();
    const large = Buffer.from(
      Array.from({ length: 40_000 }, (_, line) => `line ${line} of what compresses\n`).join(''),
    );
    const at = (name: string): string => join(place.folder, name);

    beforeAll(async () => {
      place = makePlace('compressions');
      mkdirSync(at('tree'));
      writeFileSync(at('tree/large'), large);
      writeFileSync(at('tree/small'), 'small\n');
      host = await Host.start({
        folder: place.folder,
        policy: {
          '10-site.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "signed"
signed-by = ["site"]
file-systems = ["erofs", "squashfs"]
unscanned = true
`,
        },
        keys: { 'site.pub': signer.publicPem },
      });
      client = host.connect();
    });

    afterAll(async () => {
      client.close();
      await host.stop();
      place.remove();
    });

    function erofs(...options: readonly string[]): Buffer {
      rmSync(at('image'), { force: true });
      const [program = '', ...parameters] = sid('mkfs.erofs', ...options, at('image'), at('tree')) ?? [];
      execFileSync(program, parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
      return readFileSync(at('image'));
    }

    function squashfs(compression: string): Buffer {
      const parameters = ['-noappend', '-quiet', '-no-progress', '-comp', compression];
      execFileSync('mksquashfs', [at('tree'), at('image'), ...parameters], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      return readFileSync(at('image'));
    }

    function show(image: Uint8Array, fileSystem: FileSystem): Promise<RawReply> {
      using memfd = memfdOf(image);
      const signature = signer.sign(digestOf(image), 'example/image', { fileSystem });
      const parameters = { image: { fileDescriptor: 0 }, signatures: [toBase64(signature)] };
      return client.call('Mount', parameters, [memfd.number]);
    }

    test.each([
      ...(['lz4', 'lz4hc', 'lzma', 'deflate', 'zstd'] as const).map((name) => ['erofs', name] as const),
      ...(['gzip', 'lzo', 'lz4', 'xz', 'zstd'] as const).map((name) => ['squashfs', name] as const),
    ])('%s by %s: what was put in is read, or the kernel lacks it and says so', async (fileSystem, name) => {
      const image = fileSystem === 'erofs' ? erofs(`-z${name}`) : squashfs(name);
      expect(image.length).toBeLessThan(large.length / 2);
      const reply = await show(image, fileSystem);
      const [fd] = reply.fds;
      if (fd === undefined) {
        expect(reply.error).toBe(`${interfaceName}.SystemError`);
        absent(false, `this kernel has no ${fileSystem} by ${name}: ${JSON.stringify(reply.parameters)}`);
        return;
      }
      using mount = new OwnedFd(fd);
      const root = descriptorPath(mount.number);
      expect(readFileSync(join(root, 'large')).equals(large)).toBe(true);
      expect(readFileSync(join(root, 'small'), 'utf8')).toBe('small\n');
    });

    test('an EROFS whose files are on another device is refused by name', async () => {
      const reply = await show(erofs(`--blobdev=${at('blob')}`, '--chunksize=4096'), 'erofs');
      expect(reply).toMatchObject({
        error: `${interfaceName}.IncompatibleImage`,
        parameters: { reason: expect.stringMatching(/devices/) as string },
      });
    });
  },
);
