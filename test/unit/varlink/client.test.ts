import { describe, expect, test } from 'vitest';
import { Client, type Receiver } from '../../../src/varlink/client.ts';
import { ProtocolError, VarlinkError } from '../../../src/varlink/error.ts';
import { Frames } from '../../../src/varlink/frames.ts';
import { parseInterface } from '../../../src/varlink/idl.ts';
import {
  formatReply,
  parseCall,
  type Call,
  type JsonObject,
  type Reply,
} from '../../../src/varlink/message.ts';
import { Server } from '../../../src/varlink/server.ts';
import {
  ExpectedMore,
  InterfaceNotFound,
  InvalidParameter,
  MethodNotFound,
  MethodNotImplemented,
  PermissionDenied,
} from '../../../src/varlink/service.ts';
import { callMethod } from '../../../src/varlink/typed-call.ts';

/** A connection whose other end is the test. */
class Wire {
  readonly sent: { call: Call; fds: readonly number[] }[] = [];
  readonly discarded: number[] = [];
  closed = 0;
  receiver: Receiver | undefined;
  readonly #frames = new Frames({ messageBytesMax: 1000, descriptorsMax: 10 });

  start(receiver: Receiver): void {
    this.receiver = receiver;
  }

  send(bytes: Uint8Array, fds: readonly number[]): void {
    this.#frames.push(bytes, fds);
    for (let next = this.#frames.next(); next !== undefined; next = this.#frames.next()) {
      this.sent.push({ call: parseCall(next.frame), fds: next.fds });
    }
  }

  discard(fds: readonly number[]): void {
    this.discarded.push(...fds);
  }

  close(): void {
    this.closed++;
  }

  reply(reply: Partial<Reply>, fds: number[] = []): void {
    this.receiver?.received(formatReply({ parameters: {}, continues: false, ...reply }), fds);
  }
}

function connect(): { wire: Wire; client: Client } {
  const wire = new Wire();
  return { wire, client: new Client(wire) };
}

describe('call', () => {
  test('sends a call and its descriptors, and gives the reply and its descriptors', async () => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', { x: 1 }, [5]);
    expect(wire.sent).toMatchObject([{ call: { method: 'a.b.C', parameters: { x: 1 } }, fds: [5] }]);
    wire.reply({ parameters: { y: 2 } }, [9]);
    expect(await answer).toEqual({ parameters: { y: 2 }, fds: [9] });
    expect(wire.discarded).toEqual([]);
  });

  test('may be made while others wait; replies come in the order of the calls', async () => {
    const { wire, client } = connect();
    const calls = [1, 2, 3].map((n) => client.call('a.b.C', { n }));
    for (const n of [1, 2, 3]) wire.reply({ parameters: { n } });
    expect((await Promise.all(calls)).map(({ parameters }) => parameters)).toEqual([
      { n: 1 },
      { n: 2 },
      { n: 3 },
    ]);
  });

  test('rejects with the error, and closes what came with it', async () => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', {});
    wire.reply({ error: 'a.b.E', parameters: { n: 1 } }, [4]);
    await expect(answer).rejects.toMatchObject({ name: 'a.b.E', parameters: { n: 1 } });
    await expect(answer).rejects.toBeInstanceOf(VarlinkError);
    expect(wire.discarded).toEqual([4]);
  });

  test.each([
    [InterfaceNotFound, 'InterfaceNotFound', { interface: 'a.b' }],
    [MethodNotFound, 'MethodNotFound', { method: 'a.b.C' }],
    [MethodNotImplemented, 'MethodNotImplemented', { method: 'a.b.C' }],
    [InvalidParameter, 'InvalidParameter', { parameter: 'x' }],
    [InvalidParameter, 'InvalidParameter', { parameter: 'x', reason: 'is missing' }],
    [PermissionDenied, 'PermissionDenied', {}],
    [ExpectedMore, 'ExpectedMore', {}],
  ])('knows the errors of org.varlink.service: %# %s %j', async (errorClass, name, parameters) => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', {});
    wire.reply({ error: `org.varlink.service.${name}`, parameters });
    const thrown = await answer.catch((thrown: unknown) => thrown);
    expect(thrown).toBeInstanceOf(errorClass);
    expect(thrown).toMatchObject({ name: `org.varlink.service.${name}` });
    expect((thrown as VarlinkError).parameters).toEqual(parameters);
  });

  test('rejects where the connection ends, and from then on', async () => {
    const { wire, client } = connect();
    const answers = [client.call('a.b.C', {}), client.call('a.b.D', {})];
    wire.receiver?.ended();
    for (const answer of answers) await expect(answer).rejects.toThrow('the service ended the connection');
    await expect(client.call('a.b.E', {})).rejects.toBeInstanceOf(ProtocolError);
    expect(() => {
      client.oneway('a.b.E', {});
    }).toThrow(ProtocolError);
    expect(wire.closed).toBe(1);
    client.close();
    expect(wire.closed).toBe(1);
  });

  test('rejects with what the transport ended with', async () => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', {});
    wire.receiver?.ended(new Error('ECONNRESET'));
    await expect(answer).rejects.toThrow('ECONNRESET');
  });

  test('rejects where the client is closed', async () => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', {});
    client.close();
    await expect(answer).rejects.toThrow('the connection was closed');
    wire.reply({}, [3]);
    expect(wire.discarded).toEqual([3]);
  });
});

describe('what breaks the protocol ends the connection', () => {
  test.each([
    ['no JSON', 'x\0'],
    ['no object', '[]\0'],
    ['a reply that continues to a call for one', '{"continues":true}\0'],
    ['too long', 'x'.repeat(17 * 1024 * 1024)],
  ])('%s', async (_name, text) => {
    const { wire, client } = connect();
    const answer = client.call('a.b.C', {});
    wire.receiver?.received(Buffer.from(text), [1, 2]);
    await expect(answer).rejects.toBeInstanceOf(ProtocolError);
    expect(wire.closed).toBe(1);
    expect(wire.discarded).toEqual([1, 2]);
  });

  test('a reply that nobody asked for', () => {
    const { wire } = connect();
    wire.reply({}, [1]);
    expect(wire.closed).toBe(1);
    expect(wire.discarded).toEqual([1]);
  });
});

test('oneway calls wait for nothing', async () => {
  const { wire, client } = connect();
  client.oneway('a.b.C', {}, [5]);
  expect(wire.sent).toMatchObject([{ call: { oneway: true }, fds: [5] }]);
  const answer = client.call('a.b.D', {});
  wire.reply({ parameters: { d: 1 } });
  expect((await answer).parameters).toEqual({ d: 1 });
});

describe('more', () => {
  test('gives every reply', async () => {
    const { wire, client } = connect();
    const replies = client.more('a.b.C', {});
    expect(wire.sent[0]?.call.more).toBe(true);
    wire.reply({ parameters: { n: 1 }, continues: true }, [8]);
    queueMicrotask(() => {
      wire.reply({ parameters: { n: 2 }, continues: true });
      wire.reply({ parameters: { n: 3 } });
    });
    const seen: unknown[] = [];
    for await (const { parameters, fds } of replies) seen.push([parameters, fds]);
    expect(seen).toEqual([
      [{ n: 1 }, [8]],
      [{ n: 2 }, []],
      [{ n: 3 }, []],
    ]);
  });

  test('fails with the error after the replies before it', async () => {
    const { wire, client } = connect();
    const replies = client.more('a.b.C', {});
    wire.reply({ parameters: { n: 1 }, continues: true });
    wire.reply({ error: 'a.b.E' });
    const seen: JsonObject[] = [];
    await expect(
      (async (): Promise<void> => {
        for await (const { parameters } of replies) seen.push(parameters);
      })(),
    ).rejects.toMatchObject({ name: 'a.b.E' });
    expect(seen).toEqual([{ n: 1 }]);
  });

  test('closes the descriptors of replies that nobody takes any more; calls go on', async () => {
    const { wire, client } = connect();
    const replies = client.more('a.b.C', {});
    wire.reply({ continues: true }, [1]);
    wire.reply({ continues: true }, [2]);
    for await (const { fds } of replies) {
      expect(fds).toEqual([1]);
      break;
    }
    const answer = client.call('a.b.D', {});
    wire.reply({ continues: true }, [3]);
    wire.reply({}, [4]);
    wire.reply({ parameters: { d: 1 } });
    expect((await answer).parameters).toEqual({ d: 1 });
    expect(wire.discarded).toEqual([2, 3, 4]);
  });
});

describe('calls of a generated client', () => {
  const description = parseInterface('interface a.b\nmethod C() -> (n: int)\nerror E (n: int)\n');

  class E extends VarlinkError {}
  const errors = { E: (parameters: JsonObject): VarlinkError => new E('a.b.E', parameters) };

  test('take replies that have grown', async () => {
    const { wire, client } = connect();
    const answer = callMethod(client, description, 'C', {}, [], errors);
    wire.reply({ parameters: { n: 1, later: {} } }, [3]);
    expect(await answer).toEqual({ parameters: { n: 1, later: {} }, fds: [3] });
  });

  test('refuse replies that do not fit, and close their descriptors', async () => {
    const { wire, client } = connect();
    const answer = callMethod(client, description, 'C', {}, [], errors);
    wire.reply({ parameters: { n: '1' } }, [3]);
    await expect(answer).rejects.toBeInstanceOf(ProtocolError);
    expect(wire.discarded).toEqual([3]);
    expect(wire.closed).toBe(0);
  });

  test.each([
    ['a.b.E', { n: 1 }, true],
    ['a.b.E', { n: 'x' }, false],
    ['a.b.toString', {}, false],
    ['c.d.E', { n: 1 }, false],
  ])('make the errors of the interface: %s %j', async (error, parameters, own) => {
    const { wire, client } = connect();
    const answer = callMethod(client, description, 'C', {}, [], errors);
    wire.reply({ error, parameters });
    const thrown = await answer.catch((thrown: unknown) => thrown);
    expect(thrown).toMatchObject({ name: error, parameters });
    expect(thrown instanceof E).toBe(own);
  });
});

test('client and server work together', async () => {
  const text = 'interface a.b\nmethod Echo(text: string) -> (text: string)\n';
  const server = new Server<undefined>(
    { vendor: '', product: '', version: '', url: '' },
    [
      {
        description: parseInterface(text),
        text,
        methods: { Echo: ({ text }) => ({ parameters: { text: text ?? '' }, fds: [3] }) },
      },
    ],
    { onBug: () => undefined, discard: () => undefined },
  );
  const frames = new Frames({ messageBytesMax: 1000, descriptorsMax: 10 });
  let receiver: Receiver | undefined;
  const client = new Client({
    start: (given) => {
      receiver = given;
    },
    send: (bytes, fds) => {
      frames.push(bytes, fds);
      for (let next = frames.next(); next !== undefined; next = frames.next()) {
        void server.handle(parseCall(next.frame), undefined, (reply, fds) => {
          receiver?.received(formatReply(reply), fds);
        });
      }
    },
    discard: () => undefined,
    close: () => undefined,
  });
  expect(await client.call('a.b.Echo', { text: 'ä' })).toEqual({ parameters: { text: 'ä' }, fds: [3] });
  await expect(client.call('a.b.Echo', {})).rejects.toMatchObject({
    name: 'org.varlink.service.InvalidParameter',
  });
});
