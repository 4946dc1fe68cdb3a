import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../src/daemon/callers/limits.ts';
import { makePlace, serviceArguments, writePolicy, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { RawClient, type RawReply } from '../support/raw-client.ts';
import { errorName } from './acceptance-room.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))('a log that nobody reads', () => {
  let place: Place;
  const chunk = Buffer.alloc(1024 * 1024);

  beforeAll(() => {
    place = makePlace('attack-log');
    writePolicy(place.folder, { '10.toml': policy }, {});
  });
  afterAll(() => {
    place.remove();
  });

  function readAll(fd: number): string {
    try {
      return chunk.toString('utf8', 0, readSync(fd, chunk));
    } catch {
      return '';
    }
  }

  async function connected(socketPath: string): Promise<RawClient> {
    for (const end = Date.now() + 30_000; ;) {
      try {
        return new RawClient(socketPath);
      } catch (error) {
        if (Date.now() > end) throw error;
      }
      await wait(20);
    }
  }

  test('stalls nobody, and what could not be recorded is not decided', async () => {
    const fifo = join(place.folder, 'log');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    const log = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const socketPath = join(place.folder, 'run', 'socket');
    const service = spawn(process.execPath, serviceArguments(place.folder, socketPath), {
      stdio: ['ignore', log, 'inherit'],
    });
    const ended = once(service, 'exit');
    try {
      const client = await connected(socketPath);
      const ask = (): Promise<RawReply> => client.call('Verify', { image: { name: 'a'.repeat(250) } });
      let decided = 0;
      let reply = await ask();
      for (; reply.error === errorName('ImageNotFound'); decided += 1) reply = await ask();
      expect(reply.error).toBe(errorName('LimitExceeded'));
      expect(reply.parameters).toEqual({ limit: 'logBytes', value: limits.logBytes });
      expect(decided).toBeGreaterThan(100);
      // The service goes on with all that it need not record.
      expect((await client.call('Describe')).error).toBeUndefined();
      let read = '';
      const lines = (): number => read.split('\n').filter((line) => line.includes('"msg":"audit"')).length;
      const end = Date.now() + 30_000;
      while (lines() < decided && Date.now() < end) {
        await wait(5);
        read += readAll(log);
      }
      expect(lines()).toBe(decided);
      expect((await ask()).error).toBe(errorName('ImageNotFound'));
      client.close();
      service.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
    } finally {
      service.kill('SIGKILL');
      closeSync(log);
    }
  });
});
