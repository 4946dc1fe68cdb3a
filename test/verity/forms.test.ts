import { spawnSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestHex } from '../../src/base/digest.ts';
import { openImmutableImage } from '../../src/client/sealed-image.ts';
import { checkObject } from '../../src/store/check-store.ts';
import { openFile } from '../../src/sys/file.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { enableVerity } from '../../src/sys/verity.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { bigContent, openRoom, type Room } from '../kernel/mounting-room.ts';
import { isRoot, needs } from '../support/needs.ts';

const skip = needs('kernel', isRoot, 'root');
const error = (name: string): string => `io.cfsmountd.MountDelegation.${name}`;

/** Forms of fs-verity that are not an image's, as fsverity(1) makes them. */
const forms: readonly (readonly [string, readonly string[], string])[] = [
  ['SHA-512', ['--hash-alg=sha512'], 'SHA-512 instead of SHA-256'],
  ['blocks of 1024 bytes', ['--block-size=1024'], 'blocks of 1024 bytes instead of 4096'],
  ['a salt', ['--salt=5a5a'], 'a salt'],
];

/** Enables fs-verity by the tool, and answers whether the kernel took it. */
function enable(path: string, options: readonly string[]): boolean {
  const { status, error: failure } = spawnSync('fsverity', ['enable', path, ...options], {
    encoding: 'utf8',
  });
  if (failure !== undefined) throw failure;
  return status === 0;
}

function take(room: Room, file: { readonly number: number }): Promise<{ digest: string } & Disposable> {
  const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
  return Promise.resolve(room.images.take(request, room.peer(), room.policy));
}

/** Puts a file with `content` and fs-verity in place of the object of the room's store. */
function replaceObject(room: Room, content: string, options: readonly string[]): string {
  const hex = digestHex(verityDigest(Buffer.from(bigContent)));
  const object = join(room.store.path, hex.slice(0, 2), hex.slice(2));
  const path = join(room.directory, 'replacement');
  writeFileSync(path, content);
  expect(enable(path, options)).toBe(true);
  renameSync(path, object);
  return object;
}

describe.skipIf(skip)('fs-verity in another form than SHA-256 over blocks of 4096 bytes', () => {
  test.each(forms)(
    '%s: an image is refused by name, and a client sends a copy',
    async (_form, options, named) => {
      const room = openRoom();
      const path = join(room.directory, 'client.cfs');
      writeFileSync(path, room.image);
      expect(enable(path, options)).toBe(true);
      {
        using file = openFile(path);
        await expect(take(room, file)).rejects.toMatchObject({
          name: error('ImageNotImmutable'),
          parameters: { reason: expect.stringContaining(`its fs-verity uses ${named};`) as unknown },
        });
      }
      const sent = openImmutableImage(path);
      using file = sent.fd;
      expect(sent.kind).toBe('memfd');
      using image = await take(room, file);
      expect(image.digest).toBe(room.digest);
    },
  );

  test.each(forms)(
    '%s: an object is refused by name before anything is mounted',
    async (_form, options, named) => {
      const room = openRoom();
      const object = replaceObject(room, bigContent, options);
      await expect(mountChecked(room)).rejects.toMatchObject({
        name: error('ObjectsMissing'),
        parameters: {
          count: 1,
          reason: expect.stringContaining(`some have fs-verity with ${named}`) as unknown,
        },
      });
      const digest = verityDigest(Buffer.from(bigContent));
      expect(await checkObject(object, digest)).toContain(`its fs-verity uses ${named}`);
    },
  );

  test('blocks of 64 KiB: the kernel has none that are longer than a page of memory', () => {
    const room = openRoom();
    const path = join(room.directory, 'client.cfs');
    writeFileSync(path, room.image);
    expect(enable(path, ['--block-size=65536'])).toBe(false);
  });

  test('another file in place of an object is named before anything is mounted', async () => {
    const room = openRoom();
    replaceObject(room, 'something else', []);
    await expect(mountChecked(room)).rejects.toMatchObject({
      name: error('ObjectsMissing'),
      parameters: { count: 1, reason: expect.stringContaining('some are other files') as unknown },
    });
  });

  test('the common form is mounted', async () => {
    const room = openRoom();
    replaceObject(room, bigContent, []);
    using mount = await mountChecked(room);
    expect(readFileSync(join(descriptorPath(mount.number), 'big'), 'utf8')).toBe(bigContent);
  });
});

/** Mounts the room's image with every object checked. */
async function mountChecked(room: Room): ReturnType<Room['mount']> {
  const path = join(room.directory, 'checked.cfs');
  writeFileSync(path, room.image);
  using file = openFile(path);
  expect(enableVerity(file.number)).toBe(true);
  const request = { kind: 'descriptor', fd: file.number, field: 'image.fileDescriptor' } as const;
  using image = await room.images.take(request, room.peer(), room.policy);
  const store = { ...room.store, verity: 'require' as const };
  return await room.mount(image, {
    constraints: { ...room.constraints, stores: [store], verity: 'require' },
  });
}
