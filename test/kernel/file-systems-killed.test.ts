import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FileSystem } from '../../src/trust/file-system.ts';
import { closeFd } from '../../src/sys/fd.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import { buildFileSystem, presentFileSystems } from '../support/file-systems.ts';
import { hashedDisk, mapperDevices } from '../support/verity-partitions.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { until } from './acceptance-room.ts';

const here = presentFileSystems(['squashfs', 'ext4', 'xfs', 'btrfs']);
/** With hashes, and so with a device of dm-verity where the kernel has it. */
const withDisk = here.includes('squashfs') && process.arch === 'x64';
const names: readonly FileSystem[] = withDisk ? [...here, 'ddi'] : here;
const rounds = process.env['CFS_VM'] === undefined ? 4 : 3;

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))(
  'a service that is killed while it mounts by loop devices',
  () => {
    let place: Place;
    let hosting: Parameters<typeof Host.start>[0];
    let host: Host;
    let before: readonly string[];

    beforeAll(async () => {
      before = mapperDevices();
      place = makePlace('file-systems-killed');
      const [tree, images] = [join(place.folder, 'tree'), join(place.folder, 'images')];
      for (const folder of [tree, images]) mkdirSync(folder, { mode: 0o755 });
      writeFileSync(join(tree, 'hello'), 'hello\n');
      const signer = new Signer();
      const pathOf = (name: FileSystem): string => join(images, `${name}.raw`);
      for (const fileSystem of here) buildFileSystem(fileSystem, tree, pathOf(fileSystem));
      if (withDisk) writeFileSync(pathOf('ddi'), hashedDisk(readFileSync(pathOf('squashfs'))));
      for (const fileSystem of names) {
        const path = pathOf(fileSystem);
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
file-systems = ["squashfs", "ext4", "xfs", "btrfs", "ddi"]
unscanned = true
`;
      hosting = {
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'site.pub': signer.publicPem },
        // No mount is kept, so that every request is a new loop device.
        arguments: ['--limit', 'mountsKept=1', '--limit', 'mountsKeptPerUser=1'],
      };
      host = await Host.start(hosting);
    });

    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    test.each(Array.from({ length: rounds }, (_, round) => round))(
      'leaves no loop device and no mapping once it is started again (round %i)',
      async (round) => {
        const client = host.connect();
        let count = 0;
        const work = async (): Promise<void> => {
          for (; ; count++) {
            const name = names[count % names.length] ?? '';
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
        // Loop devices go with the process; what it had mapped, and had not let go of yet, is the next one's to remove.
        host = await Host.start(hosting);
        await until(
          'no loop device and no mapping is left',
          () =>
            loopFiles().every((path) => !path.startsWith(place.folder)) &&
            mapperDevices().every((name) => before.includes(name)),
        );
        expect(count).toBeGreaterThan(0);
      },
    );
  },
);
