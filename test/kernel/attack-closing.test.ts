import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../src/daemon/callers/limits.ts';
import { isSyscallError } from '../../src/sys/errno.ts';
import { Host, makePlace, smallImage, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { callWithImage, connectAs, descriptorsOf, errorName, threadsOf } from './acceptance-room.ts';

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

/** Holds a closer of the service for an hour; then connects `count` times, once it is told to. */
function startAttacker(
  host: Host,
  uid: number,
  count: number,
): ChildProcessByStdio<Writable, Readable, null> {
  const script = join(import.meta.dirname, 'attack-closing.py');
  const identity = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
  const command = ['/usr/bin/python3', script, host.socketPath, String(count)];
  return spawn('setpriv', [...identity, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
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
      const attacker = startAttacker(host, 1234, count);
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

    test('keeps no image of others open, however many such users hold all closers', async () => {
      const closers = 3;
      const folder = join(place.folder, 'few');
      mkdirSync(folder);
      const few = await Host.start({
        folder,
        policy: { '10.toml': policy },
        arguments: ['--limit', `closers=${closers}`],
      });
      const threads = threadsOf(few.pid);
      const attackers = Array.from({ length: closers }, (_, index) => startAttacker(few, 2000 + index, 0));
      try {
        for (const attacker of attackers) {
          const said = createInterface(attacker.stdout)[Symbol.asyncIterator]();
          expect((await said.next()).value).toBe('hanging');
        }
        const held = (prefix: string): number =>
          descriptorsOf(few.pid).filter((each) => each.startsWith(prefix)).length;
        // One was there from the start.
        await few.until('every closer hangs', () => threadsOf(few.pid) >= threads + closers - 1);
        const before = held('/memfd:image');
        const client = connectAs(few, 3000);
        for (let call = 0; call < 4; call += 1) {
          const reply = await callWithImage(client, 'Verify', smallImage({ name: String(call) }), {
            allowUnsigned: true,
          });
          expect(reply.error).toBe(errorName('DeniedByPolicy'));
        }
        await few.until('the images are closed', () => held('/memfd:image') === before);
        client.close();
      } finally {
        for (const attacker of attackers) {
          attacker.kill('SIGKILL');
          await once(attacker, 'close');
        }
        await few.stop();
      }
    });
  },
);
