import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, Host, makePlace, Signer, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { connectAs, python, serviceError } from './acceptance-room.ts';

const user = ['setpriv', '--reuid=1234', '--regid=1234', '--clear-groups', '--'];
const namespaces = ['unshare', '--user', '--map-root-user', '--mount', '--'];
const secret = Buffer.from('nobody but root\n');

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'a user who means harm',
  () => {
    let place: Place;
    let host: Host;

    beforeAll(async () => {
      place = makePlace('attack-images');
      const folder = join(place.folder, 'images');
      mkdirSync(folder, { mode: 0o755 });
      const signer = new Signer();
      const image = smallImage({ hello: 'hello\n' }, [
        [
          'secret',
          {
            type: 'file',
            mode: 0o600,
            ...{ uid: 0, gid: 0, mtime: { seconds: 0n, nanoseconds: 0 }, xattrs: [], nlink: 1 },
            size: secret.length,
            content: { kind: 'inline', bytes: secret },
          },
        ],
      ]);
      writeFileSync(join(folder, 'app.cfs'), image);
      writeFileSync(join(folder, 'app.cfs.sig'), signer.sign(digestOf(image), 'example/app'));
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

    /** Runs a command as the user; answers what it says of each thing, by name. */
    function run(...command: readonly string[]): Readonly<Record<string, string>> {
      const [program = '', ...rest] = [...user, ...command];
      const done = spawnSync(program, rest, { encoding: 'utf8' });
      expect(done.status, done.stderr).toBe(0);
      const lines = done.stdout.matchAll(/^([^{:]+): (.*)$/gm);
      return Object.fromEntries([...lines].map(([, what = '', said = '']) => [what, said]));
    }

    test('gets an error with a name for every odd descriptor', () => {
      const said = run(...python('attack-images.py'), host.socketPath);
      // Not every kernel has pages for it; read it is like any other.
      if (said['hugetlb memfd']?.startsWith('not here') !== true)
        expect(said['hugetlb memfd']).toBe('NotSigned');
      expect(said).toMatchObject({
        'sealed beside a writable mapping': 'ImageNotImmutable',
        'sparse, 4 EiB': 'LimitExceeded',
        empty: 'NotSigned',
        'appending, non-blocking, read to its end': 'NotSigned',
        'internet socket': 'BadFileDescriptor',
        pipe: 'BadFileDescriptor',
        'zeros without end': 'BadFileDescriptor',
        'memory of a process': 'ImageNotImmutable',
        'file in memory': 'ImageNotImmutable',
      });
      for (const kind of ['epoll', 'eventfd', 'timerfd', 'inotify', 'pidfd']) {
        expect([kind, said[kind]]).toEqual([
          kind,
          expect.stringMatching(/^(BadFileDescriptor|ImageNotImmutable)$/),
        ]);
      }
      expect(host.log.filter(({ level }) => level === 'error')).toEqual([]);
    });

    test('gets nothing by files of filesystems that only its own namespaces have', () => {
      const said = run(...namespaces, ...python('attack-overlay.py'), host.socketPath);
      const overlay: unknown = expect.stringMatching(/^ImageNotImmutable .*filesystem is none of those/);
      expect(said).toEqual({
        'of a filesystem in memory': expect.stringMatching(/^ImageNotImmutable .*F_SEAL_WRITE/) as unknown,
        'below an overlay': overlay,
        'changed in an overlay': overlay,
      });
    });

    test.each([
      ['with no privilege', []],
      ['root of its own namespaces', namespaces],
    ])('does nothing with a mount but read it, %s', (_, wrapper) => {
      const asking = [
        ...python('acceptance-receive.py'),
        host.socketPath,
        'Mount',
        '{"image":{"name":"app"}}',
      ];
      const said = run(...wrapper, ...asking, ...python('attack-receiver.py'));
      expect(said).toMatchObject({
        'what is above it': 'the mount',
        'what is above it, by /proc': 'the mount',
        'changing the superblock': 'EPERM',
        "reading what is root's": 'EACCES',
        writing: 'EROFS',
        creating: 'EROFS',
        'set-id files': 'ignored',
        devices: 'closed',
      });
      for (const what of ['opening by a file handle', 'setting attributes', "taking a file's rights"]) {
        expect([what, said[what]]).not.toEqual([what, 'allowed']);
      }
    });

    test('is who connected, whoever asks through the connection later', async () => {
      // This process is root; the connection is the user's.
      const client = connectAs(host, 1234);
      expect((await client.call('Reload')).error).toBe(serviceError('PermissionDenied'));
      client.close();
    });
  },
);
