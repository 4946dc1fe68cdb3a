import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Inherited } from '../../src/daemon/inherited.ts';
import type { SuperblockRecord } from '../../src/daemon/superblock-records.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { superblockOf, tellsSuperblocks } from '../../src/sys/superblock.ts';
import { Host, makePlace, smallImage } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import type { RawReply } from '../support/raw-client.ts';
import { callWithImage, connectAs, connectAsRoot, drop, errorName } from './acceptance-room.ts';
import { openRoom, startHeldFuse } from './mounting-room.ts';

const policy = `
[[rules]]
name = "unsigned"
users = ["*"]
unsigned = true
verity = "never"
`;
const user = 1234;
const other = 1235;
/** Two images are two superblocks. */
const image = (name: string): Uint8Array => smallImage({ name });

/** A place whose services are killed after the test. */
function room(limits: readonly string[]): {
  readonly folder: string;
  readonly start: () => Promise<Host>;
} {
  const place = makePlace('attack-restart');
  const running: Host[] = [];
  onTestFinished(async () => {
    for (const host of running) {
      host.signal('SIGKILL');
      await host.ended();
    }
    place.remove();
  });
  const start = async (): Promise<Host> => {
    const options = {
      folder: place.folder,
      policy: { '10.toml': policy },
      arguments: limits.flatMap((limit) => ['--limit', limit]),
    };
    const host = await Host.start(options);
    running.push(host);
    return host;
  };
  return { folder: place.folder, start };
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

describe.skipIf(
  needs('kernel', isRoot, 'only root can start the service') ||
    needs('kernel', tellsSuperblocks(), 'whether superblocks live is told by ustat(2), which is not here'),
)('what was handed out before a restart', () => {
  test('counts against its user until it is gone, and against nobody else', async () => {
    const { start } = room(['superblocksPerUser=3']);
    const first = await start();
    const held = [
      await mount(first, user, 'a'),
      await mount(first, user, 'b'),
      await mount(first, user, 'c'),
    ];
    await mount(first, other, 'a').then((gone) => {
      gone.close();
    });
    await kill(first);

    const second = await start();
    expect(await limitMet(second, user)).toBe('superblocksPerUser');
    expect(await limitMet(second, other)).toBeUndefined();
    await kill(second);

    // Two generations later all the same, and what is closed meanwhile is seen.
    held.pop()?.close();
    const third = await start();
    await until(async () => {
      const { fds } = await ask(third, user, 'd');
      held.push(...fds.map((fd) => new OwnedFd(fd)));
      return fds.length > 0;
    });
    expect(await limitMet(third, user)).toBe('superblocksPerUser');
    for (const each of held) each.close();
    await until(async () => (await limitMet(third, user)) === undefined);
  });

  test('counts with the bytes of its copy', async () => {
    const bytes = image('a').length;
    const { start } = room([`copiedBytesPerUser=${2 * bytes}`]);
    const first = await start();
    const held = [await mount(first, user, 'a'), await mount(first, user, 'b')];
    await kill(first);
    const second = await start();
    expect(await limitMet(second, user)).toBe('copiedBytesPerUser');
    expect(await limitMet(second, other)).toBeUndefined();
    for (const each of held) each.close();
    await until(async () => (await limitMet(second, user)) === undefined);
  });

  test('leaves no record once it is gone, and records that make no sense or are of another boot are dropped', async () => {
    const { folder, start } = room([]);
    const records = join(folder, 'state', 'superblocks');
    const first = await start();
    const held = await mount(first, user, 'a');
    const [boot = ''] = readdirSync(records);
    const device = String(superblockOf(held.number).device);
    expect(readdirSync(join(records, boot))).toContain(device);
    await kill(first);
    writeFileSync(join(records, boot, '12345'), '17 4096 1234 - user 12');
    mkdirSync(join(records, 'another-boot'));
    writeFileSync(join(records, 'another-boot', device), '');
    held.close();
    const second = await start();
    await second.until('no record is left', () => readdirSync(join(records, boot)).length === 0);
    expect(readdirSync(records)).toEqual([boot]);
  });

  test('waits for no FUSE filesystem that has got the number of one of them since', async () => {
    // Long enough for another thread to start on a slow machine, so that only the one that hangs is given up.
    const opened = openRoom({ stallMilliseconds: 8000 });
    const fuse = await startHeldFuse(opened, ['statfs']);
    onTestFinished(() => {
      fuse.release();
    });
    const record = { freeInodes: 1n, owner: { user }, copiedBytes: 0 };
    const taken = { ...record, device: statSync(fuse.path).dev };
    // No device has the greatest minor number.
    const gone = { ...record, device: 0xfff0_00ff };
    const told: SuperblockRecord[] = [];
    const inherited = new Inherited([taken, gone], { pool: opened.pool, gone: (one) => told.push(one) });
    onTestFinished(() => {
      inherited.stop();
    });
    const looked = inherited.look();
    await fuse.held('statfs');
    await looked;
    expect(told).toEqual([gone]);
    expect(inherited.count).toBe(1);
    expect(opened.pool.threads.lost).toBe(1);
    fuse.release();
    await until(() => Promise.resolve(opened.pool.threads.lost === 0));
    // The service itself gets that number, once the other filesystem is gone.
    inherited.replaced(taken.device);
    expect(told).toEqual([gone, taken]);
  });
});

/** Waits, up to a minute, until `condition` holds. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end;) {
    if (await condition()) return;
    await wait(100);
  }
  throw new Error('waited in vain');
}
