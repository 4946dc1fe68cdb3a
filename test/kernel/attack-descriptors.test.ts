import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addSeals, createMemfd } from '../../src/sys/file.ts';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'a service that has no descriptor left',
  () => {
    let place: Place;
    let host: Host;

    beforeAll(async () => {
      place = makePlace('attack-descriptors');
      host = await Host.start({ folder: place.folder, policy: { '10.toml': policy } });
    });
    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    function allow(descriptors: number): void {
      const done = spawnSync('prlimit', ['--pid', String(host.pid), `--nofile=${descriptors}:`]);
      if (done.status !== 0) throw new Error(done.stderr.toString());
    }

    test('cannot start a closer, and lives on', async () => {
      // Threads load their programs when they are needed first.
      using image = createMemfd('image');
      addSeals(image.number, ['write', 'grow', 'shrink']);
      const early = host.connect();
      await early.call('Verify', { image: { fileDescriptor: 0 }, allowUnsigned: true }, [image.number]);
      early.close();
      // The one closer that is there hangs, so that for another user's descriptors a second one is needed.
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
          '0',
        ],
        { stdio: ['pipe', 'pipe', 'inherit'] },
      );
      try {
        const said = createInterface(attacker.stdout)[Symbol.asyncIterator]();
        expect((await said.next()).value).toBe('hanging');
        const client = host.connect();
        expect((await client.call('Describe')).error).toBeUndefined();
        const open = new Set(readdirSync(`/proc/${host.pid}/fd`).map(Number));
        const before = Number(
          /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${host.pid}/limits`, 'latin1'))?.[1],
        );
        // Room for the one descriptor that comes with the next call, and for nothing more.
        const [, second] = Array.from({ length: open.size + 2 }, (_, fd) => fd).filter((fd) => !open.has(fd));
        allow(second ?? 0);
        using memfd = createMemfd('attack');
        await client.call('Verify', { image: { name: 'absent' } }, [memfd.number]);
        await host.until('the closer has failed', () => {
          return host.log.some(({ msg }) => msg === 'bug in a closing thread');
        });
        allow(before);
        expect((await client.call('Describe')).error).toBeUndefined();
        client.close();
        await host.until('everything of that client is closed', () => {
          return readdirSync(`/proc/${host.pid}/fd`).length < open.size;
        });
      } finally {
        attacker.kill('SIGKILL');
        await once(attacker, 'close');
      }
    });
  },
);
