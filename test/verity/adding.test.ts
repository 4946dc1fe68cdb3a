import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { toHex } from '../../src/base/bytes.ts';
import { openFile } from '../../src/sys/file.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { measureVerity } from '../../src/sys/verity.ts';
import { addingHere } from '../kernel/adding-here.ts';
import { contentOf, imageOf } from '../kernel/adding-room.ts';
import { openRoom, sealedMemfd } from '../kernel/mounting-room.ts';
import { isRoot, needs } from '../support/needs.ts';

describe.skipIf(needs('kernel', isRoot, 'root'))('with fs-verity', () => {
  test('what a user adds is immutable, and the kernel checks it in a mount that requires it', async () => {
    const room = openRoom();
    const contents = { a: contentOf('verity a', 70_000), b: contentOf('verity b', 9_000_000) };
    const { add, added } = addingHere(room, Object.values(contents));
    const files = Object.values(contents).map(({ bytes }) => sealedMemfd(bytes));
    await add(files.map(({ number }) => number));
    for (const file of files) file.close();
    expect(added).toEqual(Object.values(contents).map(({ path }) => path));
    for (const { path } of Object.values(contents)) {
      using object = openFile(join(room.store.path, path));
      const measured = measureVerity(object.number);
      expect(toHex(measured?.digest ?? new Uint8Array())).toBe(path.replace('/', ''));
      expect(statSync(join(room.store.path, path)).mode & 0o7777).toBe(0o444);
    }
    using memfd = sealedMemfd(imageOf(contents));
    const request = { kind: 'descriptor', fd: memfd.number, field: 'image' } as const;
    using image = await room.images.take(request, room.peer(), room.policy);
    const store = { ...room.store, verity: 'require' as const };
    const constraints = { ...room.constraints, stores: [store], verity: 'require' as const };
    using mount = await room.mount(image, { constraints });
    expect(readFileSync(join(descriptorPath(mount.number), 'b')).equals(contents.b.bytes)).toBe(true);
    expect(room.bugs).toEqual([]);
  });
});
