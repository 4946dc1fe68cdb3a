import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { OwnedFd } from '../../src/sys/fd.ts';
import { Host, makePlace, smallImage } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawReply } from '../support/raw-client.ts';
import { callWithImage, connectAs, connectAsRoot, drop, errorName } from './acceptance-room.ts';

const policy = `
[[rules]]
name = "unsigned"
users = ["*"]
unsigned = true
verity = "never"
`;
const user = 1234;
const other = 1235;
/** Two images are two superblocks, each of a copy of its own. */
const image = (name: string): Uint8Array => smallImage({ name });

interface Room {
  /** What the service manager keeps, by name, oldest list first. */
  readonly kept: readonly (readonly string[])[];
  readonly start: (limits: readonly string[], more?: { readonly alone?: boolean }) => Promise<Host>;
}

/** A place, and a service manager that keeps descriptors; it ends, and every service is killed, after the test. */
async function openRoom(): Promise<Room> {
  const place = makePlace('attack-restart');
  const running: Host[] = [];
  const script = join(import.meta.dirname, '../support/service-manager.py');
  const [notify, fetch] = [join(place.folder, 'notify'), join(place.folder, 'fetch')];
  const manager = spawn('/usr/bin/python3', [script, 'keep', notify, fetch], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(async () => {
    for (const host of running) await kill(host);
    manager.kill();
    place.remove();
  });
  const kept: string[][] = [];
  createInterface(manager.stdout).on('line', (line) => kept.push(JSON.parse(line) as string[]));
  await until(() => Promise.resolve(kept.length > 0));
  const start: Room['start'] = async (limits, { alone = false } = {}) => {
    const managed = {
      environment: { NOTIFY_SOCKET: notify },
      through: ['/usr/bin/python3', script, 'start', fetch],
    };
    const host = await Host.start({
      folder: place.folder,
      policy: { '10.toml': policy },
      arguments: limits.flatMap((limit) => ['--limit', limit]),
      ...(alone ? {} : managed),
    });
    running.push(host);
    return host;
  };
  return { kept, start };
}

/** Asks for a mount of an image of its own. */
async function ask(host: Host, uid: number, name: string): Promise<RawReply> {
  // None of root's may be without an answer while capabilities are gone for a moment (connectAs).
  (await connectAsRoot(host)).close();
  const client = connectAs(host, uid);
  try {
    return await callWithImage(client, 'Mount', image(name), { allowUnsigned: true });
  } finally {
    client.close();
  }
}

async function mount(host: Host, uid: number, name: string): Promise<OwnedFd> {
  const { fds, error } = await ask(host, uid, name);
  expect(error).toBeUndefined();
  const [fd] = fds;
  if (fd === undefined) throw new Error('no mount came');
  return new OwnedFd(fd);
}

/** Which limit stands against one mount more; undefined where there is none. */
async function limitMet(host: Host, uid: number): Promise<unknown> {
  const reply = await ask(host, uid, 'one more');
  drop(reply);
  if (reply.error === undefined) return undefined;
  expect(reply.error).toBe(errorName('LimitExceeded'));
  return reply.parameters['limit'];
}

async function kill(host: Host): Promise<void> {
  host.signal('SIGKILL');
  await host.ended();
}

/** Waits, up to a minute, until `condition` holds. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end;) {
    if (await condition()) return;
    await wait(100);
  }
  throw new Error('waited in vain');
}

describe.skipIf(needs('kernel', isRoot, 'only root can start the service'))(
  'what was handed out before the service was killed',
  () => {
    test('counts against its user until it is gone, and against nobody else', async () => {
      const { kept, start } = await openRoom();
      const limits = ['superblocksPerUser=3'];
      const first = await start(limits);
      const held: OwnedFd[] = [];
      for (const name of ['a', 'b', 'c']) held.push(await mount(first, user, name));
      (await mount(first, other, 'a')).close();
      await kill(first);

      // A service for which nobody keeps descriptors counts its own, and is in nobody's way.
      const alone = await start(limits, { alone: true });
      expect(await limitMet(alone, user)).toBeUndefined();
      await kill(alone);

      const second = await start(limits);
      expect(second.log.find((line) => 'superblocks' in line)).toMatchObject({ superblocks: 3 });
      expect(await limitMet(second, user)).toBe('superblocksPerUser');
      expect(await limitMet(second, other)).toBeUndefined();
      // One goes while a service runs that did not hand it out, one while none runs.
      held.pop()?.close();
      await until(async () => {
        const { fds } = await ask(second, user, 'd');
        held.push(...fds.map((fd) => new OwnedFd(fd)));
        return fds.length > 0;
      });
      expect(await limitMet(second, user)).toBe('superblocksPerUser');
      await kill(second);
      held.pop()?.close();

      const third = await start(limits);
      expect(third.log.find((line) => 'superblocks' in line)).toMatchObject({ superblocks: 2 });
      held.push(await mount(third, user, 'e'));
      expect(await limitMet(third, user)).toBe('superblocksPerUser');
      for (const each of held) each.close();
      await until(async () => (await limitMet(third, user)) === undefined);
      // The same two descriptors all the time.
      expect(kept).toHaveLength(2);
      expect(kept[1]).toEqual([expect.stringMatching(/^superblocks-1-[0-9a-f]{16}$/), kept[1]?.[0]]);
    });
  },
);
