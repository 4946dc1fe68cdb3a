import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { drop, errorName, readFrom } from './acceptance-room.ts';

/** Lets two folders change places without end (renameat2(2), RENAME_EXCHANGE), until its standard input ends; then says how often. */
const exchange = `
import ctypes, select, sys
libc = ctypes.CDLL(None, use_errno=True)
one, two = (path.encode() for path in sys.argv[1:3])
print("exchanging", flush=True)
times = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    if libc.renameat2(-100, one, -100, two, 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")
    times += 1
print(times, flush=True)
`;

describe.skipIf(needs('kernel', isRoot, 'only root can install images'))(
  'installed images that are replaced',
  () => {
    let place: Place;
    let host: Host;
    const signer = new Signer();
    const folder = (name: string): string => join(place.folder, name);

    beforeAll(async () => {
      place = makePlace('attack-replaced');
      mkdirSync(folder('images'), { mode: 0o755 });
      // The same number of bytes, so that nothing but the content tells them apart.
      for (const name of ['one', 'two']) {
        const image = smallImage({ name: `${name}\n` });
        const at = name === 'one' ? folder('images/current') : folder('other');
        mkdirSync(at, { mode: 0o755 });
        writeFileSync(join(at, 'app.cfs'), image);
        writeFileSync(join(at, 'app.cfs.sig'), signer.sign(digestOf(image), `example/${name}`));
      }
      host = await Host.start({
        folder: place.folder,
        policy: {
          '10.toml': `
[[keys]]
id = "site"
file = "site.pub"
[[image-directories]]
path = "${folder('images')}"
[[rules]]
name = "signed"
users = ["*"]
images = ["example/**"]
signed-by = ["site"]
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

    test('with their signatures while they are looked at show what their evidence says, or are refused', async () => {
      const replacing = spawn(
        '/usr/bin/python3',
        ['-c', exchange, folder('images/current'), folder('other')],
        {
          stdio: ['pipe', 'pipe', 'inherit'],
        },
      );
      const said = createInterface(replacing.stdout)[Symbol.asyncIterator]();
      let mounted = 0;
      const client = host.connect();
      try {
        expect((await said.next()).value).toBe('exchanging');
        for (let round = 0; round < 100; round += 1) {
          const reply = await client.call('Mount', { image: { name: 'current/app' } });
          if (reply.error === undefined) {
            const evidence = reply.parameters['evidence'] as { readonly name: string };
            expect(`example/${readFrom(reply, 'name').trim()}`).toBe(evidence.name);
            mounted += 1;
          } else {
            drop(reply);
            const refusals = ['SignatureInvalid', 'ImageNotImmutable', 'ImageNotFound'].map(errorName);
            expect(refusals).toContain(reply.error);
          }
        }
      } finally {
        replacing.stdin.end();
        expect(Number((await said.next()).value)).toBeGreaterThan(100);
        await once(replacing, 'close');
      }
      expect(mounted).toBeGreaterThan(0);
      // Now that they stay where they are.
      const reply = await client.call('Mount', { image: { name: 'current/app' } });
      expect(reply.error).toBeUndefined();
      drop(reply);
      client.close();
    });
  },
);
