import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { connectAs, connectAsRoot } from './acceptance-room.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;
const bounded = ['--bounding-set=-sys_admin', '--inh-caps=-sys_admin'];
// An eighth of what the service has by default, in the same proportion.
const limits = { connections: 512, connectionsPerUser: 32 };
const users = Math.ceil(limits.connections / limits.connectionsPerUser) + 4;

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'whoever has many user IDs at hand',
  () => {
    let place: Place;
    let host: Host;

    beforeEach(async () => {
      place = makePlace('attack-many-users');
      host = await Host.start({
        folder: place.folder,
        policy: { '10.toml': policy },
        arguments: Object.entries(limits).flatMap(([name, value]) => ['--limit', `${name}=${value}`]),
      });
    });
    afterEach(async () => {
      await host.stop();
      place.remove();
    });

    /** Runs `during` while many users hold as many connections as they get, and answers how many that are. */
    async function attack(
      how: string,
      each: readonly number[],
      during: () => Promise<void>,
    ): Promise<number> {
      const script = join(import.meta.dirname, 'attack-many-users.py');
      const command = ['/usr/bin/python3', script, host.socketPath, how, ...each.map(String)];
      const attacker = spawn('setpriv', [...(how === 'zero' ? bounded : []), '--', ...command], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      try {
        const said = createInterface(attacker.stdout)[Symbol.asyncIterator]();
        const held = Number((await said.next()).value);
        await during();
        return held;
      } finally {
        attacker.stdin.end();
        await once(attacker, 'close');
      }
    }

    async function served(): Promise<void> {
      const user = connectAs(host, 1234);
      expect((await user.call('Describe')).error).toBeUndefined();
      user.close();
      const root = await connectAsRoot(host);
      expect((await root.call('Reload')).error).toBeUndefined();
      root.close();
    }

    test.each(['userns', 'pidns'])('as root of a container has half of the connections: %s', async (how) => {
      const held = await attack(how, [users, limits.connectionsPerUser], served);
      expect(held).toBeLessThanOrEqual(limits.connections / 2);
      expect(held).toBeGreaterThan(limits.connectionsPerUser);
    });

    test('as user 0 of a container has none of root’s', async () => {
      const held = await attack('zero', [1, limits.connectionsPerUser + 1], served);
      expect(held).toBe(limits.connectionsPerUser);
    });

    test('as the one to whom they are subordinate has half of the connections', async () => {
      const file = join(place.folder, 'subuid');
      writeFileSync(file, '1000:200000:65536\n');
      const target = ['--target', String(host.pid), '--mount'];
      const bound = spawnSync('nsenter', [...target, '--', 'mount', '--bind', file, '/etc/subuid']);
      expect(bound.stderr.toString()).toBe('');
      const held = await attack('plain', [users, limits.connectionsPerUser], served);
      expect(held).toBeLessThanOrEqual(limits.connections / 2);
    });

    test('of which nobody can tell that they belong together, loses a quiet connection for each user who comes', async () => {
      const held = await attack('plain', [limits.connections, 1], async () => {
        for (let count = 0; count < 20; count += 1) await served();
      });
      expect(held).toBeLessThan(limits.connections);
    });
  },
);
