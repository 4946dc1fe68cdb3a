import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { absent, isRoot, needs } from '../support/needs.ts';
import type { RawClient, RawReply } from '../support/raw-client.ts';
import { callWithImage, connectAs, drop, errorName } from './acceptance-room.ts';

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

    /** The reply to a call, and how many bytes the service wrote for it, wherever to. */
    async function written(method: string, signatures: string[]): Promise<[RawReply, number]> {
      const bytes = (): number =>
        Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${host.pid}/io`, 'latin1'))?.[1]);
      const before = bytes();
      const reply = await callWithImage(client, method, image, { signatures });
      return [reply, bytes() - before];
    }

    test('is copied to the disk only once somebody has vouched for it and the policy lets it in', async () => {
      const [unsigned, forNothing] = await written('Mount', []);
      expect(unsigned.error).toBe(errorName('NotSigned'));
      expect(forNothing).toBeLessThan(image.length / 8);
      const [verified, toVerify] = await written('Verify', [signature]);
      expect(verified.error).toBeUndefined();
      expect(toVerify).toBeLessThan(image.length / 8);
      const [mounted, toMount] = await written('Mount', [signature]);
      expect(mounted.error).toBeUndefined();
      expect(toMount).toBeGreaterThan(image.length);
      drop(mounted);
    });
  },
);
