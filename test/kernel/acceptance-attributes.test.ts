import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { python } from './acceptance-room.ts';
import { erofsImage, hasProgram } from './sys-room.ts';

const skip = needs('kernel', isRoot && hasProgram('mkfs.erofs'), 'root, mkfs.erofs');

const user = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups', '--'];
const namespaces = ['unshare', '--user', '--map-root-user', '--mount', '--'];
const root = ['unshare', '--mount', '--propagation', 'private', '--'];

describe.skipIf(skip)('what the receiver of a mount can do to its attributes', () => {
  let place: Place;
  let host: Host;

  beforeAll(async () => {
    place = makePlace('acceptance-attributes');
    const folder = join(place.folder, 'images');
    mkdirSync(folder, { mode: 0o755 });
    const signer = new Signer();
    const composefs = smallImage({ hello: 'hello\n' });
    const erofs = erofsImage(mkdtempSync(join(place.folder, 'erofs-')));
    writeFileSync(join(folder, 'composefs.cfs'), composefs);
    writeFileSync(join(folder, 'composefs.cfs.sig'), signer.sign(digestOf(composefs), 'example/composefs'));
    writeFileSync(join(folder, 'plain.erofs'), erofs);
    const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder}"
[[rules]]
name = "signed"
users = ["*"]
signed-by = ["site"]
verity = "never"
attributes = ["ro", "nosuid", "nodev", "noexec"]
[[rules]]
name = "pinned"
users = ["*"]
digests = ["${digestOf(erofs)}"]
file-systems = ["erofs"]
verity = "never"
`;
    host = await Host.start({
      folder: place.folder,
      policy: { '10.toml': policy },
      keys: { 'site.pub': signer.publicPem },
    });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  const byRule = { image: { name: 'composefs' } };
  const byRequest = { image: { name: 'plain' }, fileSystem: 'erofs', attributes: ['noexec'] };

  test.each([
    ['in namespaces of a user', [...user, ...namespaces], byRule],
    ['in namespaces of a user, IDs mapped', [...user, ...namespaces], { ...byRule, idMap: 'caller' }],
    ['in namespaces of a user, of a plain EROFS image', [...user, ...namespaces], byRequest],
    ['in nested namespaces of a user', [...user, ...namespaces, ...namespaces], byRule],
    ['in user namespaces that root made', namespaces, byRule],
    ['as root of the system', root, byRule],
    ['as root of the system, of a plain EROFS image', root, byRequest],
  ])('none is cleared %s', (_, wrapper, parameters) => {
    const at = mkdtempSync(join(place.folder, 'at-'));
    const asking = [...python('acceptance-receive.py'), host.socketPath, 'Mount', JSON.stringify(parameters)];
    const command: readonly string[] = [...wrapper, ...asking, ...python('sys-receiver.py'), at];
    const done = spawnSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' });
    expect(done.status, `${done.stdout}${done.stderr}`).toBe(0);
    const [reply, ...said] = done.stdout.trim().split('\n');
    expect(JSON.parse(reply ?? '')).toMatchObject({
      parameters: { attributes: ['ro', 'nosuid', 'nodev', 'noexec'] },
    });
    const tried = ['detached', 'clone', 'attached', 'clone of attached'].flatMap((when) =>
      ['ro', 'nosuid', 'nodev', 'noexec'].map((attribute) => `${when} ${attribute} EPERM`),
    );
    expect(said).toEqual([...tried, 'hello']);
  });
});
