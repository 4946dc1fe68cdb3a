import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { absent, isRoot, needs } from '../support/needs.ts';
import type { RawClient, RawReply } from '../support/raw-client.ts';
import { callWithImage, connectAs, descriptorsOf, drop, errorName } from './acceptance-room.ts';

const policy = `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "signed"
images = ["example/**"]
signed-by = ["site"]
verity = "never"
`;
// An image may be followed by anything: the digest is that of all of it.
const image = Buffer.concat([smallImage({ hello: 'large\n' }), Buffer.alloc(32 * 1024 * 1024, 'x')]);

// How much the service writes is what the kernel counts.
const uncounted = absent(
  existsSync('/proc/self/io'),
  'this kernel does not count what a process writes (CONFIG_TASK_IO_ACCOUNTING)',
);

describe.skipIf(needs('kernel', isRoot, 'only root can start the service') || uncounted)(
  'an image that comes as a memfd',
  () => {
    let place: Place;
    let host: Host;
    let client: RawClient;
    let signature: string;

    beforeAll(async () => {
      place = makePlace('attack-unverified');
      const signer = new Signer();
      signature = Buffer.from(signer.sign(digestOf(image), 'example/large')).toString('base64');
      host = await Host.start({
        folder: place.folder,
        policy: { '10.toml': policy },
        keys: { 'site.pub': signer.publicPem },
      });
      client = connectAs(host, 1234);
    });
    afterAll(async () => {
      client.close();
      await host.stop();
      place.remove();
    });

    /** The reply to a call, and how many bytes the service wrote for it, wherever to, and read. */
    async function written(
      method: string,
      signatures: string[],
      shown = image,
      by = client,
    ): Promise<[RawReply, written: number, read: number]> {
      const bytes = (what: 'wchar' | 'rchar'): number =>
        Number(
          new RegExp(`^${what}: (\\d+)$`, 'm').exec(readFileSync(`/proc/${host.pid}/io`, 'latin1'))?.[1],
        );
      const before = [bytes('wchar'), bytes('rchar')] as const;
      const reply = await callWithImage(by, method, shown, { signatures });
      return [reply, bytes('wchar') - before[0], bytes('rchar') - before[1]];
    }

    test('is copied to the disk only once somebody has vouched for it and the policy lets it in', async () => {
      const [unsigned, forNothing] = await written('Mount', []);
      expect(unsigned.error).toBe(errorName('NotSigned'));
      expect(forNothing).toBeLessThan(image.length / 8);
      const [verified, toVerify] = await written('Verify', [signature]);
      expect(verified.error).toBeUndefined();
      expect(toVerify).toBeLessThan(image.length / 8);
      const [mounted, toMount, read] = await written('Mount', [signature]);
      expect(mounted.error).toBeUndefined();
      expect(toMount).toBeGreaterThan(image.length);
      // What the policy will let in is copied as it is measured: read once, since its contents are known from Verify.
      expect(read).toBeLessThan(image.length * 1.5);
      drop(mounted);
    });

    test('is refused beside the signature of another image, and no copy of it stays', async () => {
      const other = Buffer.from(image);
      other.writeUInt8(other.readUInt8(other.length - 1) ^ 1, other.length - 1);
      const copies = (): number =>
        descriptorsOf(host.pid).filter(
          (target) => target.includes(place.folder) && target.endsWith('(deleted)'),
        ).length;
      // For whom nothing is kept yet, so that a copy seems to be wanted.
      const stranger = connectAs(host, 1235);
      onTestFinished(() => {
        stranger.close();
      });
      const before = copies();
      for (let round = 0; round < 3; round++) {
        const [refused, copied] = await written('Mount', [signature], other, stranger);
        expect(refused.error).toBe(errorName('SignatureInvalid'));
        expect(copied).toBeGreaterThan(other.length);
      }
      await expect.poll(copies, { timeout: 20_000 }).toBe(before);
    });
  },
);
