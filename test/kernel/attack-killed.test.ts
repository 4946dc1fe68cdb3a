import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestHex } from '../../src/base/digest.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import * as ffi from '../../src/sys/ffi.ts';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { callWithImage, drop, until } from './acceptance-room.ts';

const rounds = 5;
const workers = 4;

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))(
  'a service that is killed while it works',
  () => {
    let place: Place;
    let hosting: Parameters<typeof Host.start>[0];
    const image = smallImage({ hello: 'still here\n' });
    let signature: string;

    beforeAll(() => {
      place = makePlace('attack-killed');
      const folder = join(place.folder, 'images');
      mkdirSync(folder, { mode: 0o755 });
      const signer = new Signer();
      const signed = signer.sign(digestOf(image), 'example/app', { version: 7 });
      signature = Buffer.from(signed).toString('base64');
      writeFileSync(join(folder, 'app.cfs'), image);
      writeFileSync(join(folder, 'app.cfs.sig'), signed);
      const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder}"
[[rules]]
name = "signed"
images = ["example/**"]
signed-by = ["site"]
verity = "never"
rollback-protection = true
`;
      hosting = {
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'site.pub': signer.publicPem },
      };
    });
    afterAll(() => {
      place.remove();
    });

    const isOfPlace = (path: string): boolean => path.startsWith(place.folder);

    /** Files of loop devices that lie in the place. */
    function loopFiles(): string[] {
      return readdirSync('/sys/block')
        .filter((name) => name.startsWith('loop'))
        .flatMap((name) => {
          try {
            return [readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim()];
          } catch {
            return [];
          }
        })
        .filter(isOfPlace);
    }

    /** Processes that have a file of the place open, this one excepted. */
    function holders(): string[] {
      return readdirSync('/proc')
        .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
        .filter((pid) => {
          try {
            const fds = readdirSync(`/proc/${pid}/fd`);
            return fds.some((fd) => isOfPlace(readlinkSync(`/proc/${pid}/fd/${fd}`)));
          } catch {
            return false;
          }
        });
    }

    /** Asks for one mount after another until the service is gone; answers the last mount. */
    async function work(host: Host, counted: () => void): Promise<OwnedFd | undefined> {
      const client = host.connect();
      let last: OwnedFd | undefined;
      try {
        for (let count = 0; ; count += 1) {
          const reply =
            count % 2 === 0
              ? await client.call('Mount', { image: { name: 'app' } })
              : await callWithImage(client, 'Mount', image, { signatures: [signature] });
          const [fd, ...rest] = reply.fds;
          if (fd === undefined) throw new Error(`no mount came: ${JSON.stringify(reply)}`);
          expect(rest).toEqual([]);
          last?.close();
          last = new OwnedFd(fd);
          counted();
        }
      } catch (error) {
        // The service is gone, and with it the connection.
        if (!(error instanceof Error) || !/ended the connection|EPIPE|ECONNRESET/.test(error.message))
          throw error;
      }
      client.close();
      return last;
    }

    test('leaves nothing behind, starts again at once, and what it handed out goes on', async () => {
      const table = readFileSync('/proc/self/mountinfo', 'utf8');
      const kept: OwnedFd[] = [];
      for (let round = 0; round < rounds; round += 1) {
        const host = await Host.start(hosting);
        let mounts = 0;
        const working = Array.from({ length: workers }, () =>
          work(host, () => {
            mounts += 1;
            // At another moment each time.
            if (mounts === 1 + round * 7) host.signal('SIGKILL');
          }),
        );
        await host.ended();
        for (const mount of await Promise.all(working)) if (mount !== undefined) kept.push(mount);
      }
      expect(kept.length).toBeGreaterThan(rounds);
      await until('every process of it has ended', () => holders().length === 0);
      for (const mount of kept) {
        expect(readFileSync(`/proc/self/fd/${mount.number}/hello`, 'utf8')).toBe('still here\n');
      }
      const host = await Host.start(hosting);
      const reply = await host.connect().call('Mount', { image: { name: 'app' } });
      expect(reply.error).toBeUndefined();
      drop(reply);
      await host.stop();
      for (const mount of kept) mount.close();
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(table);
      expect(readdirSync(join(place.folder, 'state')).sort()).toEqual(['handed-out', 'versions.jsonl']);
      expect(readdirSync(join(place.folder, 'state', 'handed-out'))).toEqual([digestHex(digestOf(image))]);
      await until('no loop device is left', () => loopFiles().length === 0);
    });

    test('leaves a child, killed at the worst moment, that ends by itself', async () => {
      const CLONE_NEWUSER = 0x1000_0000;
      const SIGCHLD = 17;
      const pid = ffi.cloneIdleChild(CLONE_NEWUSER | SIGCHLD, 1);
      expect(pid).toBeGreaterThan(0);
      const state = (): string =>
        /^State:\s*(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '';
      // Nobody has waited for it: what has ended is still there to be looked at.
      await until('it has ended', () => state() === 'Z');
      expect(ffi.waitpid(pid, null, 0)).toBe(pid);
    });
  },
);
