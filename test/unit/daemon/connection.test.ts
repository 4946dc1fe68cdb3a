import { closeSync, fstatSync, openSync } from 'node:fs';
import pino from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import type { CallContext } from '../../../src/daemon/calls/call.ts';
import { Connection, type Serving } from '../../../src/daemon/connections/connection.ts';
import { limits } from '../../../src/daemon/callers/limits.ts';
import type { Peer } from '../../../src/daemon/callers/peer.ts';
import { Shares } from '../../../src/daemon/callers/shares.ts';
import { Turns } from '../../../src/daemon/connections/turns.ts';
import { closeFd, OwnedFd } from '../../../src/sys/fd.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { parseInterface } from '../../../src/varlink/idl.ts';
import { Server, type MethodAnswer } from '../../../src/varlink/server.ts';
import { RawClient } from '../../support/raw-client.ts';

const text = 'interface org.example.test\nmethod Ask(what: ?string) -> (n: ?int)\n';

/** A connection whose method answers as the test says, and what it did with its descriptors. */
interface Bench {
  readonly client: RawClient;
  readonly connection: Connection;
  readonly serving: Serving;
  readonly closed: number[];
  generation: number;
  ended: number;
  readonly asked: CallContext[];
}

const benches: Bench[] = [];

function bench(answer: (context: CallContext) => MethodAnswer | Promise<MethodAnswer>): Bench {
  const [ours, theirs] = socketPair();
  const closed: number[] = [];
  const asked: CallContext[] = [];
  const state = { generation: 1, ended: 0 };
  const peer: Peer = {
    pid: 1,
    uid: 1000,
    user: 1000,
    group: 'user 1000',
    root: false,
    caller: { uid: 1000, root: false, gids: [] },
    initialNamespace: true,
    pidfd: new OwnedFd(openSync('/dev/null', 'r')),
    userNamespace: new OwnedFd(openSync('/dev/null', 'r')),
  };
  const server = new Server<CallContext>(
    { vendor: '', product: '', version: '', url: '' },
    [
      {
        description: parseInterface(text),
        text,
        methods: {
          Ask: (_parameters, context) => {
            asked.push(context);
            return answer(context);
          },
        },
      },
    ],
    {
      onBug: (error) => {
        throw error;
      },
      discard: () => undefined,
    },
  );
  const serving: Serving = {
    server,
    turns: new Turns(2, 2),
    descriptors: new Shares('descriptorsInFlightPerUser', 'descriptorsInFlight'),
    buffered: new Shares('bufferedBytesPerUser', 'bufferedBytes'),
    closing: {
      close: (fds, _owner, done) => {
        closed.push(...fds);
        fds.forEach(closeFd);
        done?.();
      },
      backlog: () => 0,
    },
    discard: (mount) => {
      closed.push(mount);
      closeFd(mount);
    },
    log: pino({ level: 'silent' }),
    generation: () => state.generation,
    ended: () => {
      state.ended += 1;
    },
  };
  const made: Bench = Object.assign(state, {
    client: new RawClient(theirs),
    connection: new Connection(ours, peer, serving),
    serving,
    closed,
    asked,
  });
  benches.push(made);
  return made;
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited in vain');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

afterEach(() => {
  for (const { connection, client } of benches.splice(0)) {
    connection.drop('the test is over');
    client.close();
  }
});

const ask = 'org.example.test.Ask';

describe('a connection', () => {
  test('closes what came with a call once the call is answered', async () => {
    const made = bench(() => ({ parameters: { n: 1 } }));
    const fd = openSync('/dev/null', 'r');
    await made.client.call(ask, {}, [fd, fd]);
    closeSync(fd);
    const came = made.asked[0]?.fds ?? [];
    expect(came).toHaveLength(2);
    await until(() => made.closed.length === 2);
    expect(made.closed).toEqual(came);
    expect(made.serving.descriptors.total).toBe(0);
    expect(made.serving.turns.running).toBe(0);
  });

  test('sends descriptors and keeps none', async () => {
    let sent = -1;
    const made = bench(() => {
      sent = openSync('/dev/null', 'r');
      return { parameters: { n: 0 }, fds: [sent] };
    });
    const reply = await made.client.call(ask);
    expect(reply.fds).toHaveLength(1);
    reply.fds.forEach(closeFd);
    await until(() => made.closed.includes(sent));
  });

  test('hands out nothing that a policy decided which is no longer in force', async () => {
    let sent = -1;
    const made = bench(async (context) => {
      context.decidedBy = made.generation;
      sent = openSync('/dev/null', 'r');
      await Promise.resolve();
      made.generation += 1;
      return { parameters: { n: 0 }, fds: [sent] };
    });
    const reply = await made.client.call(ask);
    expect(reply.error).toMatch(/\.DeniedByPolicy$/);
    expect(reply.fds).toEqual([]);
    expect(made.closed).toContain(sent);
  });

  test('takes one call at a time', async () => {
    const waiting: (() => void)[] = [];
    const made = bench(
      () =>
        new Promise((resolve) => {
          waiting.push(() => {
            resolve({ parameters: { n: waiting.length } });
          });
        }),
    );
    const call = `${JSON.stringify({ method: ask, parameters: {} })}\0`;
    made.client.send(Buffer.from(call.repeat(3)));
    for (let count = 1; count <= 3; count += 1) {
      await until(() => waiting.length === count);
      waiting.at(-1)?.();
      expect((await made.client.receive())?.parameters).toEqual({ n: count });
    }
  });

  test('answers what was sent before the peer ended its half', async () => {
    const made = bench(() => ({ parameters: { n: 5 } }));
    made.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`));
    made.client.endSending();
    expect((await made.client.receive())?.parameters).toEqual({ n: 5 });
    expect(await made.client.receive()).toBeUndefined();
    expect(made.ended).toBe(1);
  });

  test('ends where a message is not completed in time, and closes what came with it', async () => {
    const made = bench(() => ({ parameters: {} }));
    const fd = openSync('/dev/null', 'r');
    made.client.send(Buffer.from('{"method":'), [fd]);
    closeSync(fd);
    await until(() => made.serving.descriptors.total === 1);
    made.connection.checkDue(performance.now());
    expect(made.ended).toBe(0);
    made.connection.checkDue(performance.now() + limits.messageMilliseconds);
    expect(made.ended).toBe(1);
    expect(made.serving.descriptors.total).toBe(0);
    expect(made.closed.every((closed) => !isOpen(closed))).toBe(true);
    expect(await made.client.receive()).toBeUndefined();
  });

  test('ends where its user has too many messages that are not complete', async () => {
    const made = bench(() => ({ parameters: {} }));
    made.client.send(Buffer.from('{"method":'));
    await until(() => made.serving.buffered.total === '{"method":'.length);
    made.serving.buffered.take({ user: 1000 }, limits.bufferedBytesPerUser - made.serving.buffered.total);
    made.client.send(Buffer.from('"'));
    expect(await made.client.receive()).toBeUndefined();
    expect(made.ended).toBe(1);
  });

  test('ends where the calls of its user that wait are too many bytes, and closes what came with one', async () => {
    const made = bench(() => ({ parameters: {} }));
    made.serving.buffered.take({ user: 1000 }, limits.bufferedBytesPerUser);
    const fd = openSync('/dev/null', 'r');
    made.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`), [fd]);
    closeSync(fd);
    expect(await made.client.receive()).toBeUndefined();
    expect(made.ended).toBe(1);
    expect(made.asked).toEqual([]);
    expect(made.serving.descriptors.total).toBe(0);
  });

  test('counts no bytes of messages that are answered', async () => {
    const made = bench(() => ({ parameters: { n: 1 } }));
    const call = JSON.stringify({ method: ask });
    made.client.send(Buffer.from(call.slice(0, 5)));
    await until(() => made.serving.buffered.total === 5);
    made.client.send(Buffer.from(`${call.slice(5)}\0`));
    expect((await made.client.receive())?.parameters).toEqual({ n: 1 });
    expect(made.serving.buffered.total).toBe(0);
  });

  test('an idle one is never due', async () => {
    const made = bench(() => ({ parameters: {} }));
    await made.client.call(ask);
    made.connection.checkDue(Number.MAX_SAFE_INTEGER);
    expect(made.ended).toBe(0);
  });

  test('ends where a reply is not read in time', async () => {
    const made = bench(() => ({ parameters: { what: 'x'.repeat(4 * 1024 * 1024) } }));
    made.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`));
    await until(() => made.asked.length === 1);
    made.connection.checkDue(performance.now());
    expect(made.ended).toBe(0);
    made.connection.checkDue(performance.now() + limits.replyMilliseconds);
    expect(made.ended).toBe(1);
  });

  test('waits less for a reply to be read once it is to finish, for one that waited before and for the last', async () => {
    const stuck = { parameters: { what: 'x'.repeat(4 * 1024 * 1024) } };
    const before = bench(() => stuck);
    before.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`));
    await until(() => before.asked.length === 1);
    before.connection.finish();
    let answer: (() => void) | undefined;
    const last = bench(
      () =>
        new Promise((resolve) => {
          answer = () => {
            resolve(stuck);
          };
        }),
    );
    last.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`));
    await until(() => answer !== undefined);
    last.connection.finish();
    answer?.();
    await until(() => last.serving.turns.running === 0);
    for (const made of [before, last]) {
      made.connection.checkDue(performance.now());
      expect(made.ended).toBe(0);
      made.connection.checkDue(performance.now() + limits.lastReplyMilliseconds);
      expect(made.ended).toBe(1);
    }
  });

  test('finishes the call under way and takes no further one', async () => {
    let answer: (() => void) | undefined;
    const made = bench(
      () =>
        new Promise((resolve) => {
          answer = () => {
            resolve({ parameters: { n: 1 } });
          };
        }),
    );
    made.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`.repeat(2)));
    await until(() => answer !== undefined);
    made.connection.finish();
    expect(made.ended).toBe(0);
    answer?.();
    expect((await made.client.receive())?.parameters).toEqual({ n: 1 });
    expect(await made.client.receive()).toBeUndefined();
    expect(made.ended).toBe(1);
    expect(made.asked).toHaveLength(1);
  });

  test('a peer that vanishes while its call is under way gets no reply, and nothing is kept', async () => {
    let answer: (() => void) | undefined;
    let sent = -1;
    const made = bench(
      () =>
        new Promise((resolve) => {
          answer = () => {
            sent = openSync('/dev/null', 'r');
            resolve({ parameters: { n: 0 }, fds: [sent] });
          };
        }),
    );
    made.client.send(Buffer.from(`${JSON.stringify({ method: ask })}\0`));
    await until(() => answer !== undefined);
    made.client.close();
    answer?.();
    await until(() => made.ended === 1);
    expect(made.closed).toContain(sent);
    expect(made.serving.turns.running).toBe(0);
  });
});
