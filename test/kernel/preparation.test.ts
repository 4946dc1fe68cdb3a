import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/client/client.ts';
import { buildFileSystem } from '../support/file-systems.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { makeImage } from './mounting-room.ts';

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('installed images', () => {
  let place: Place;
  let host: Host;
  const [signer, stranger] = [new Signer(), new Signer()];

  beforeAll(async () => {
    place = makePlace('preparation');
    const at = (name: string): string => join(place.folder, name);
    for (const folder of ['images', 'images/below', 'pinned', 'store'])
      mkdirSync(at(folder), { mode: 0o755 });
    const install = (name: string, image: Uint8Array, by?: Signer): void => {
      writeFileSync(at(`${name}.cfs`), image);
      if (by !== undefined) writeFileSync(at(`${name}.cfs.sig`), by.sign(digestOf(image), 'example/image'));
    };
    install('images/below/signed', makeImage(at('store')), signer);
    install('images/strange', smallImage({ hello: 'of a stranger' }), stranger);
    install('images/unsigned', smallImage({ hello: 'of nobody' }));
    // No image, and vouched for: what is wrong with it is for a request to find.
    install('images/broken', Buffer.alloc(8192, 7), signer);
    // Of what is not read here, its superblock is looked at.
    mkdirSync(at('tree'));
    buildFileSystem('squashfs', at('tree'), at('images/other.cfs'));
    const other = digestOf(readFileSync(at('images/other.cfs')));
    writeFileSync(
      at('images/other.cfs.sig'),
      signer.sign(other, 'example/other', { fileSystem: 'squashfs' }),
    );
    install('pinned/image', smallImage({ hello: 'of the administrator' }));
    host = await Host.start({
      folder: place.folder,
      policy: {
        '10.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[stores]]
name = "store"
path = "${at('store')}"
verity = "trusted"
[[image-directories]]
path = "${at('images')}"
[[image-directories]]
path = "${at('pinned')}"
[[rules]]
name = "signed"
users = ["*"]
signed-by = ["site"]
stores = ["store"]
verity = "if-present"
[[rules]]
name = "installed"
users = ["*"]
locations = ["${at('pinned')}"]
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

  const prepared = (generation: number) => (line: Readonly<Record<string, unknown>>) =>
    line['msg'] === 'installed images prepared' && line['generation'] === generation;

  test('are prepared at the start, as far as somebody vouches for them', async () => {
    await host.until('the images are prepared', () => host.log.some(prepared(1)));
    expect(host.log.find(prepared(1))).toMatchObject({ prepared: 3, passedOver: 3 });
    expect(host.log).toContainEqual(
      expect.objectContaining({ name: 'broken', msg: 'an installed image cannot be prepared' }),
    );
  });

  test('had their objects looked for: what goes later is found only when it is opened', async () => {
    await host.until('the images are prepared', () => host.log.some(prepared(1)));
    const store = join(place.folder, 'store');
    for (const folder of readdirSync(store)) rmSync(join(store, folder), { recursive: true });
    const client = await connect(host.socketPath);
    const { mount } = await client.mount({ image: { name: 'below/signed' } });
    mount.close();
    client.close();
    makeImage(store);
  });

  test('are prepared again for a new policy', async () => {
    host.signal('SIGHUP');
    await host.until('the images are prepared again', () => host.log.some(prepared(2)));
    expect(host.log.find(prepared(2))).toMatchObject({ prepared: 3, passedOver: 3 });
  });
});
