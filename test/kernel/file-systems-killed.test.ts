import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeFd } from '../../src/sys/fd.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { buildFileSystem, presentFileSystems } from '../support/file-systems.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { until } from './acceptance-room.ts';

const here = presentFileSystems(['squashfs', 'ext4', 'xfs', 'btrfs']);
const rounds = 4;

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))(
  'a service that is killed while it mounts by loop devices',
  () => {
    let place: Place;
    let hosting: Parameters<typeof Host.start>[0];

    beforeAll(() => {
      place = makePlace('file-systems-killed');
      const [tree, images] = [join(place.folder, 'tree'), join(place.folder, 'images')];
      for (const folder of [tree, images]) mkdirSync(folder, { mode: 0o755 });
      writeFileSync(join(tree, 'hello'), 'hello\n');
      const signer = new Signer();
      for (const fileSystem of here) {
        const path = join(images, `${fileSystem}.raw`);
        buildFileSystem(fileSystem, tree, path);
        const digest = digestOf(readFileSync(path));
        writeFileSync(`${path}.sig`, signer.sign(digest, `example/${fileSystem}`, { fileSystem }));
      }
      const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${images}"
[[rules]]
name = "every filesystem"
signed-by = ["site"]
file-systems = ["squashfs", "ext4", "xfs", "btrfs"]
unscanned = true
`;
      hosting = {
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'site.pub': signer.publicPem },
        // No mount is kept, so that every request is a new loop device.
        arguments: ['--limit', 'mountsKept=1', '--limit', 'mountsKeptPerUser=1'],
      };
    });

    afterAll(() => {
      place.remove();
    });

    test.each(Array.from({ length: rounds }, (_, round) => round))(
      'leaves no loop device (round %i)',
      async (round) => {
        const host = await Host.start(hosting);
        const client = host.connect();
        let count = 0;
        const work = async (): Promise<void> => {
          for (; ; count++) {
            const name = here[count % here.length] ?? '';
            const reply = await client.call('Mount', { image: { name } });
            for (const fd of reply.fds) closeFd(fd);
            if (reply.error !== undefined) throw new Error(JSON.stringify(reply));
          }
        };
        const ended = work().catch(() => undefined);
        // Further on in each round, and wherever the service happens to be then.
        await host.until('it has mounted some', () => count > round * 3);
        host.signal('SIGKILL');
        await host.ended();
        await ended;
        client.close();
        await until('no loop device is left', () =>
          loopFiles().every((path) => !path.startsWith(place.folder)),
        );
        expect(count).toBeGreaterThan(0);
      },
    );
  },
);
