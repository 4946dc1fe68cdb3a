import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../src/daemon/limits.ts';
import { isSyscallError } from '../../src/sys/errno.ts';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;

/** What `connect` gives, once so many connections no longer wait to be accepted that the kernel refuses more. */
async function roomSoon<Client>(connect: () => Client): Promise<Client> {
  const end = Date.now() + 30_000;
  for (;;) {
    try {
      return connect();
    } catch (error) {
      if (!isSyscallError(error, 'EAGAIN') || Date.now() > end) throw error;
    }
    await wait(10);
  }
}

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'a user whose descriptors hang as they are closed',
  () => {
    let place: Place;
    let host: Host;

    beforeAll(async () => {
      place = makePlace('attack-closing');
      host = await Host.start({ folder: place.folder, policy: { '10.toml': policy } });
    });
    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    const openDescriptors = (): number => readdirSync(`/proc/${host.pid}/fd`).length;

    test('fills the service with no more sockets than the limit allows, and keeps nobody else waiting', async () => {
      const before = openDescriptors();
      const count = 3 * limits.descriptorsInFlightPerUser;
      const script = join(import.meta.dirname, 'attack-closing.py');
      const attacker = spawn(
        'setpriv',
        [
          '--reuid=1234',
          '--regid=1234',
          '--clear-groups',
          '--',
          '/usr/bin/python3',
          script,
          host.socketPath,
          String(count),
        ],
        { stdio: ['pipe', 'pipe', 'inherit'] },
      );
      try {
        const said = createInterface(attacker.stdout)[Symbol.asyncIterator]();
        expect((await said.next()).value).toBe('hanging');
        attacker.stdin.write('\n');
        expect((await said.next()).value).toBe('done');
        // Whoever comes last is accepted last: by the time of the answer all that came before were taken or refused.
        const client = await roomSoon(() => host.connect());
        expect((await client.call('Describe')).error).toBeUndefined();
        client.close();
        await host.until('most sockets are closed', () => {
          return (
            openDescriptors() < before + limits.descriptorsInFlightPerUser + 2 * limits.connectionsPerUser
          );
        });
      } finally {
        attacker.kill('SIGKILL');
        await once(attacker, 'close');
      }
    });
  },
);
