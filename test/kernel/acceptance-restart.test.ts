import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { toBase64 } from '../../src/base/bytes.ts';
import { HandedOutImages } from '../../src/store/handed-out.ts';
import { closeFd } from '../../src/sys/fd.ts';
import { receiveMessage } from '../../src/sys/socket.ts';
import {
  digestOf,
  Host,
  makePlace,
  Signer,
  smallImage,
  writePolicy,
  type Place,
} from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';
import { callWithImage, connectAsRoot, drop, errorName, memfdOf, until } from './acceptance-room.ts';

const skip = needs('kernel', isRoot, 'only root can mount');
const image = smallImage({ hello: 'hello\n' });
const digest = digestOf(image);
const signer = new Signer();
const keys = { 'site.pub': signer.publicPem };
const rule = (more: string): string => `
[[keys]]
id = "site"
file = "site.pub"
[[rules]]
name = "signed"
users = ["*"]
signed-by = ["site"]
verity = "never"
${more}
`;

let place: Place;
beforeEach(() => {
  place = makePlace('acceptance-restart');
});
afterEach(() => {
  place.remove();
});

describe.skipIf(skip)('a service that is killed', () => {
  const start = (): Promise<Host> =>
    Host.start({ folder: place.folder, policy: { '10.toml': rule('rollback-protection = true') }, keys });

  const mountVersion = (client: RawClient, version: number): Promise<RawReply> =>
    callWithImage(client, 'Mount', image, {
      signatures: [toBase64(signer.sign(digest, 'example/app', { version }))],
    });

  /** Mounts versions from `first` on, one after another, until the service is gone. Answers the newest handed out. */
  async function mountOn(client: RawClient, first: number, got: (version: number) => void): Promise<void> {
    for (let version = first; ; version += 1) {
      let reply: RawReply;
      try {
        reply = await mountVersion(client, version);
      } catch {
        // It is gone.
        client.close();
        return;
      }
      drop(reply);
      if (reply.error === undefined) got(version);
      else expect(reply.error).toBe(errorName('RolledBack'));
    }
  }

  test('has recorded what it handed out, for whoever collects garbage', async () => {
    const host = await start();
    const client = await connectAsRoot(host);
    const reply = await mountVersion(client, 1);
    expect(reply.error).toBeUndefined();
    host.signal('SIGKILL');
    await host.ended();
    drop(reply);
    client.close();
    const recorded = new HandedOutImages(join(place.folder, 'state')).read();
    expect(recorded.map((image) => image.digest)).toEqual([digest]);
  });

  test('remembers the newest version that it has handed out', async () => {
    let newest = 0;
    for (let round = 0; round < 4; round += 1) {
      const host = await start();
      const clients = [await connectAsRoot(host), await connectAsRoot(host), await connectAsRoot(host)];
      if (newest > 0) {
        const [client] = clients;
        if (client === undefined) throw new Error('there is no connection');
        const older = await mountVersion(client, newest - 1);
        expect(older.error).toBe(errorName('RolledBack'));
        expect(older.parameters).toMatchObject({ name: 'example/app', version: newest - 1 });
        expect(older.parameters['newest']).toBeGreaterThanOrEqual(newest);
      }
      const from = newest;
      const all = clients.map((client, index) =>
        mountOn(client, from + 10 + index, (version) => {
          newest = Math.max(newest, version);
        }),
      );
      // Killed with calls of the other connections under way, each time elsewhere.
      await host.until('some versions are mounted', () => newest >= from + 10 + 3 * round);
      host.signal('SIGKILL');
      await Promise.all([...all, host.ended()]);
      // What a write that was cut off may leave.
      writeFileSync(join(place.folder, 'state', 'versions.jsonl.new'), '{"rule":"sig');
    }
    const host = await start();
    const client = await connectAsRoot(host);
    expect((await mountVersion(client, newest - 1)).error).toBe(errorName('RolledBack'));
    const next = await mountVersion(client, newest + 1000);
    expect(next.error).toBeUndefined();
    drop(next);
    client.close();
    await host.stop();
  });
});

describe.skipIf(skip)('a policy that is read anew', () => {
  const start = (): Promise<Host> =>
    Host.start({ folder: place.folder, policy: { '10.toml': rule('') }, keys });
  const signatures = [toBase64(signer.sign(digest, 'example/app'))];
  const verify = (client: RawClient): Promise<RawReply> =>
    callWithImage(client, 'Verify', image, { signatures });
  const revoking = `${rule('')}[[revoked]]\ndigest = "${digest}"\n`;

  const policyOf = async (client: RawClient): Promise<{ digest: string; lastError?: string }> => {
    const { parameters } = await client.call('Describe');
    return parameters['policy'] as { digest: string; lastError?: string };
  };

  test('is put into force all or not at all', async () => {
    const host = await start();
    const client = await connectAsRoot(host);
    const before = await policyOf(client);
    const broken: readonly [string, RegExp, () => void][] = [
      [
        'no TOML',
        /20\.toml:2/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking, '20.toml': '\n[[rules' }, keys);
        },
      ],
      [
        'an unknown field',
        /20\.toml:3/,
        () => {
          writePolicy(
            place.folder,
            { '10.toml': revoking, '20.toml': '[[rules]]\nname = "x"\nuser = ["*"]\nunsigned = true\n' },
            keys,
          );
        },
      ],
      [
        'two rules of one name',
        /20\.toml/,
        () => {
          const again = '[[rules]]\nname = "signed"\nusers = ["root"]\nunsigned = true\n';
          writePolicy(place.folder, { '10.toml': revoking, '20.toml': again }, keys);
        },
      ],
      [
        'no key',
        /10\.toml:4.*site\.pub/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, {});
        },
      ],
      [
        'a key that is none',
        /site\.pub/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, { 'site.pub': 'nonsense' });
        },
      ],
      [
        'a key that is a folder',
        /site\.pub/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, {});
          mkdirSync(join(place.folder, 'policy', 'keys.d', 'site.pub'));
        },
      ],
      [
        'a file that everybody may write',
        /10\.toml/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, keys);
          chmodSync(join(place.folder, 'policy', 'policy.d', '10.toml'), 0o666);
        },
      ],
      [
        'a file that is a folder',
        /20\.toml/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, keys);
          mkdirSync(join(place.folder, 'policy', 'policy.d', '20.toml'));
        },
      ],
      [
        'a link that leads nowhere',
        /20\.toml/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, keys);
          symlinkSync('nowhere', join(place.folder, 'policy', 'policy.d', '20.toml'));
        },
      ],
      [
        'a link to itself',
        /20\.toml/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, keys);
          symlinkSync('20.toml', join(place.folder, 'policy', 'policy.d', '20.toml'));
        },
      ],
      [
        'a file that is a FIFO',
        /20\.toml/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, keys);
          execFileSync('mkfifo', [join(place.folder, 'policy', 'policy.d', '20.toml')]);
        },
      ],
      [
        'a key that is a FIFO',
        /site\.pub/,
        () => {
          writePolicy(place.folder, { '10.toml': revoking }, {});
          execFileSync('mkfifo', [join(place.folder, 'policy', 'keys.d', 'site.pub')]);
        },
      ],
      [
        'a folder of policies that is none',
        /policy\.d/,
        () => {
          rmSync(join(place.folder, 'policy', 'policy.d'), { recursive: true, force: true });
          writeFileSync(join(place.folder, 'policy', 'policy.d'), '');
        },
      ],
    ];
    for (const [what, reason, breakIt] of broken) {
      breakIt();
      const reply = await client.call('Reload');
      expect(reply.error, what).toBe(errorName('PolicyInvalid'));
      expect(reply.parameters, what).toMatchObject({
        file: expect.any(String) as string,
        line: expect.any(Number) as number,
        reason: expect.any(String) as string,
      });
      const now = await policyOf(client);
      expect(now.digest, what).toBe(before.digest);
      expect(now.lastError, what).toMatch(reason);
      expect((await verify(client)).error, what).toBeUndefined();
      rmSync(join(place.folder, 'policy', 'policy.d'), { recursive: true, force: true });
    }
    writePolicy(place.folder, { '10.toml': rule('') }, keys);
    expect((await client.call('Reload')).error).toBeUndefined();
    expect(await policyOf(client)).toMatchObject({ digest: before.digest });
    expect((await policyOf(client)).lastError).toBeUndefined();
    client.close();
    await host.stop();
  });

  test('by SIGHUP, comes into force likewise', async () => {
    const host = await start();
    const client = await connectAsRoot(host);
    writePolicy(place.folder, { '10.toml': revoking, '20.toml': 'x' }, keys);
    host.signal('SIGHUP');
    await host.until('the reload failed', () =>
      host.log.some(({ msg }) => String(msg).startsWith('the policy does')),
    );
    expect((await policyOf(client)).lastError).toMatch(/20\.toml/);
    expect((await verify(client)).error).toBeUndefined();
    writePolicy(place.folder, { '10.toml': revoking }, keys);
    host.signal('SIGHUP');
    await host.until('it is reloaded', () => host.log.some(({ msg }) => msg === 'policy reloaded'));
    expect((await policyOf(client)).lastError).toBeUndefined();
    expect((await verify(client)).error).toBe(errorName('DeniedByPolicy'));
    client.close();
    await host.stop();
  });

  test('decides everything that is answered after the answer to Reload', async () => {
    const host = await start();
    const admin = await connectAsRoot(host);
    const buffer = Buffer.alloc(64 * 1024);
    // Long enough to copy and to measure that policies change meanwhile.
    const big = smallImage({ hello: 'hello\n' });
    const padded = Buffer.concat([big, Buffer.alloc(16 * 1024 * 1024)]);
    const bigDigest = digestOf(padded);
    const call = {
      method: `${interfaceName}.Mount`,
      parameters: {
        image: { fileDescriptor: 0 },
        signatures: [toBase64(signer.sign(bigDigest, 'example/app'))],
      },
    };
    const outcomes = { before: 0, refused: 0 };
    using memfd = memfdOf(padded);
    for (let round = 0; round < 12; round += 1) {
      const client = await connectAsRoot(host);
      client.send(Buffer.from(`${JSON.stringify(call)}\0`), [memfd.number]);
      // Some time later, but never for long: each round looks at another moment.
      for (let calls = 0; calls < 3 * round; calls += 1) await admin.call('Describe');
      writePolicy(place.folder, { '10.toml': `${rule('')}[[revoked]]\ndigest = "${bigDigest}"\n` }, keys);
      expect((await admin.call('Reload')).error).toBeUndefined();
      // What was sent before the answer to Reload is here by now.
      const early = receiveMessage(client.socket.number, buffer);
      if (early.kind === 'data') {
        early.fds.forEach(closeFd);
        outcomes.before += 1;
      } else {
        const reply = await client.receive();
        expect(reply?.error).toBe(errorName('DeniedByPolicy'));
        expect(reply?.fds).toEqual([]);
        outcomes.refused += 1;
      }
      client.close();
      writePolicy(place.folder, { '10.toml': rule('') }, keys);
      expect((await admin.call('Reload')).error).toBeUndefined();
    }
    expect(outcomes.refused).toBeGreaterThan(0);
    admin.close();
    await host.stop();
  });

  test('decides instead of the old one where a reply waits to be read', async () => {
    const host = await start();
    const admin = await connectAsRoot(host);
    const client = await connectAsRoot(host);
    const call = {
      method: `${interfaceName}.Verify`,
      parameters: { image: { fileDescriptor: 0 }, signatures },
    };
    const bytes = Buffer.from(`${JSON.stringify(call)}\0`);
    using memfd = memfdOf(image);
    // Calls without end, and no reply is read: the service stops to read, once its replies wait.
    let sent = 0;
    let idle = 0;
    await until('the service waits for its reader', () => {
      const audited = host.audit.length;
      const before = sent;
      for (let went = bytes.length; went > 0;) {
        went = client.send(bytes, [memfd.number]);
        if (went > 0 && went < bytes.length) throw new Error('a part of a call went');
        if (went > 0) sent += 1;
      }
      idle = sent === before && audited > 0 && audited === host.audit.length ? idle + 1 : 0;
      return idle > 50;
    });
    writePolicy(place.folder, { '10.toml': revoking }, keys);
    expect((await admin.call('Reload')).error).toBeUndefined();
    // Lines come in order: what was decided by the old policy is in the log before this one.
    await host.until('the log has it', () => host.log.some(({ msg }) => msg === 'policy reloaded'));
    const allowed = host.audit.filter(({ result }) => result === 'allowed').length;
    const errors: unknown[] = [];
    let waited = 0;
    for (let count = 0; count < sent; count += 1) {
      const reply = await client.receive();
      errors.push(reply?.error);
      const reason = reply?.parameters['reason'];
      if (typeof reason === 'string' && reason.includes('while the reply waited')) waited += 1;
    }
    const first = errors.indexOf(errorName('DeniedByPolicy'));
    expect(errors.slice(0, first).every((error) => error === undefined)).toBe(true);
    expect(errors.slice(first).every((error) => error === errorName('DeniedByPolicy'))).toBe(true);
    // The one that waited was allowed, and is not told so any more.
    expect(waited).toBeLessThanOrEqual(1);
    expect(first + waited).toBe(allowed);
    admin.close();
    client.close();
    await host.stop();
  });
});
