import { describe, expect, test } from 'vitest';
import { VarlinkError } from '../../../src/varlink/error.ts';
import { parseInterface } from '../../../src/varlink/idl.ts';
import type { Call, JsonObject, Reply } from '../../../src/varlink/message.ts';
import { Server } from '../../../src/varlink/server.ts';
import { serviceText } from '../../../src/varlink/service.ts';

const text = `interface org.example.Test
method Echo(text: string, later: ?bool) -> (text: string)
method Count(to: int) -> (n: int)
method Fail(how: string) -> ()
method Missing() -> ()
method Open() -> (fd: int)
`;

const info = { vendor: 'V', product: 'P', version: '1', url: 'https://example.org' };
const failed = new VarlinkError('org.example.Test.Failed', { reason: 'a bug' });

interface Seen {
  readonly bugs: unknown[];
  readonly discarded: number[];
  readonly server: Server<string>;
}

function makeServer(bugError?: VarlinkError): Seen {
  const bugs: unknown[] = [];
  const discarded: number[] = [];
  const server = new Server<string>(
    info,
    [
      {
        description: parseInterface(text),
        text,
        methods: {
          Echo(parameters, context) {
            const answer = { parameters: { text: `${context}: ${JSON.stringify(parameters['text'])}` } };
            return parameters['later'] === true ? Promise.resolve(answer) : answer;
          },
          Count({ to }, _context, { sendContinues }) {
            for (let n = 1; n < Number(to); n++) sendContinues({ n });
            return { parameters: { n: Number(to) } };
          },
          async Fail({ how }) {
            await Promise.resolve();
            if (how === 'varlink') throw new VarlinkError('org.example.Test.Refused', { why: 'so' });
            throw new Error('unexpected');
          },
          Open: () => ({ parameters: { fd: 0 }, fds: [7] }),
        },
      },
    ],
    {
      onBug: (error) => bugs.push(error),
      discard: (fds) => discarded.push(...fds),
      ...(bugError !== undefined && { bugError }),
    },
  );
  return { bugs, discarded, server };
}

async function ask(
  server: Server<string>,
  method: string,
  parameters: JsonObject = {},
  flags: Partial<Call> = {},
): Promise<[Reply, ...number[]][]> {
  const replies: [Reply, ...number[]][] = [];
  const call = { method, parameters, oneway: false, more: false, upgrade: false, ...flags };
  await server.handle(call, 'peer', (reply, fds) => replies.push([reply, ...fds]));
  return replies;
}

const error = (name: string, parameters: JsonObject): [Reply][] => [
  [{ error: name, parameters, continues: false }],
];

describe('methods', () => {
  test.each([false, true])('answer once, at once or later (%s)', async (later) => {
    const { server } = makeServer();
    expect(await ask(server, 'org.example.Test.Echo', { text: 'hello', later })).toEqual([
      [{ parameters: { text: 'peer: "hello"' }, continues: false }],
    ]);
  });

  test('that answer at once are done when handle returns', () => {
    const { server } = makeServer();
    const call = {
      method: 'org.example.Test.Open',
      parameters: {},
      oneway: false,
      more: false,
      upgrade: false,
    };
    const replies: unknown[] = [];
    expect(server.handle(call, 'peer', (reply, fds) => replies.push([reply, fds]))).toBeUndefined();
    expect(replies).toEqual([[{ parameters: { fd: 0 }, continues: false }, [7]]]);
  });

  test('answer more than once where the client takes it', async () => {
    const { server } = makeServer();
    const replies = await ask(server, 'org.example.Test.Count', { to: 3 }, { more: true });
    expect(replies.map(([{ parameters, continues }]) => [parameters, continues])).toEqual([
      [{ n: 1 }, true],
      [{ n: 2 }, true],
      [{ n: 3 }, false],
    ]);
  });

  test('that would answer more than once say so where the client takes one reply', async () => {
    const { server } = makeServer();
    expect(await ask(server, 'org.example.Test.Count', { to: 3 })).toEqual(
      error('org.varlink.service.ExpectedMore', {}),
    );
  });

  test('that answer once do so for a call with more', async () => {
    const { server } = makeServer();
    expect(await ask(server, 'org.example.Test.Count', { to: 1 }, { more: true })).toEqual([
      [{ parameters: { n: 1 }, continues: false }],
    ]);
  });
});

describe('oneway calls are answered by nothing', () => {
  test.each([
    ['org.example.Test.Echo', { text: '' }],
    ['org.example.Test.Echo', {}],
    ['org.example.Test.Fail', { how: 'varlink' }],
    ['org.example.Test.Count', { to: 3 }],
    ['org.example.Test.Nothing', {}],
    ['nothing', {}],
  ])('%s %j', async (method, parameters) => {
    const { server } = makeServer();
    expect(await ask(server, method, parameters, { oneway: true })).toEqual([]);
  });

  test('nor by a bug, which is told all the same', async () => {
    const { server, bugs } = makeServer(failed);
    expect(await ask(server, 'org.example.Test.Fail', { how: 'bug' }, { oneway: true })).toEqual([]);
    expect(bugs).toHaveLength(1);
  });

  test('and their descriptors are given back', async () => {
    const { server, discarded } = makeServer();
    expect(await ask(server, 'org.example.Test.Open', {}, { oneway: true })).toEqual([]);
    expect(discarded).toEqual([7]);
  });
});

describe('errors', () => {
  test.each([
    ['org.example.Test.Nothing', 'MethodNotFound', { method: 'org.example.Test.Nothing' }],
    ['org.example.Test.toString', 'MethodNotFound', { method: 'org.example.Test.toString' }],
    ['org.example.Test.Missing', 'MethodNotImplemented', { method: 'org.example.Test.Missing' }],
    ['org.example.Nothing.Echo', 'InterfaceNotFound', { interface: 'org.example.Nothing' }],
    ['__proto__.Echo', 'InterfaceNotFound', { interface: '__proto__' }],
    ['Echo', 'MethodNotFound', { method: 'Echo' }],
    ['.Echo', 'MethodNotFound', { method: '.Echo' }],
    ['', 'MethodNotFound', { method: '' }],
    ['org.example.Test.', 'MethodNotFound', { method: 'org.example.Test.' }],
    ['org.example.Test', 'InterfaceNotFound', { interface: 'org.example' }],
    ['org.example.Test.Echo', 'InvalidParameter', { parameter: 'text', reason: 'is missing' }],
  ])('%s: %s', async (method, name, parameters) => {
    const { server } = makeServer();
    expect(await ask(server, method)).toEqual(error(`org.varlink.service.${name}`, parameters));
  });

  test('a fault of the call is answered with the parameter, whatever it holds', async () => {
    const { server } = makeServer();
    const fault = { parameter: 'text', reason: 'is given twice' };
    expect(await ask(server, 'org.example.Test.Echo', { text: '' }, { fault })).toEqual(
      error('org.varlink.service.InvalidParameter', fault),
    );
  });

  test('no method hands over the connection', async () => {
    const { server } = makeServer();
    expect(await ask(server, 'org.example.Test.Echo', { text: '' }, { upgrade: true })).toMatchObject([
      [{ error: 'org.varlink.service.InvalidParameter', parameters: { parameter: 'upgrade' } }],
    ]);
  });

  test('those of a handler are the reply', async () => {
    const { server, bugs } = makeServer();
    expect(await ask(server, 'org.example.Test.Fail', { how: 'varlink' })).toEqual(
      error('org.example.Test.Refused', { why: 'so' }),
    );
    expect(bugs).toEqual([]);
  });

  test('a bug is told, and the peer hears what was chosen for it', async () => {
    const { server, bugs } = makeServer(failed);
    expect(await ask(server, 'org.example.Test.Fail', { how: 'bug' })).toEqual(
      error('org.example.Test.Failed', { reason: 'a bug' }),
    );
    expect(bugs).toMatchObject([{ message: 'unexpected' }]);
  });

  test('without a choice, a bug ends the connection', async () => {
    const { server, bugs } = makeServer();
    await expect(ask(server, 'org.example.Test.Fail', { how: 'bug' })).rejects.toThrow('unexpected');
    expect(bugs).toHaveLength(1);
  });
});

describe('org.varlink.service', () => {
  test('tells who serves, and what', async () => {
    const { server } = makeServer();
    const interfaces = ['org.example.Test', 'org.varlink.service'];
    expect(await ask(server, 'org.varlink.service.GetInfo')).toEqual([
      [{ parameters: { ...info, interfaces }, continues: false }],
    ]);
  });

  test.each([
    ['org.example.Test', text],
    ['org.varlink.service', serviceText],
  ])('describes %s', async (name, description) => {
    const { server } = makeServer();
    expect(await ask(server, 'org.varlink.service.GetInterfaceDescription', { interface: name })).toEqual([
      [{ parameters: { description }, continues: false }],
    ]);
  });

  test('knows no other interface', async () => {
    const { server } = makeServer();
    expect(
      await ask(server, 'org.varlink.service.GetInterfaceDescription', { interface: 'toString' }),
    ).toEqual(error('org.varlink.service.InterfaceNotFound', { interface: 'toString' }));
  });
});

test('what is served wrongly is found at the start', () => {
  const description = parseInterface(text);
  const options = { onBug: () => undefined, discard: () => undefined };
  const served = { description, text, methods: {} };
  expect(() => new Server(info, [served, served], options)).toThrow('served twice');
  const handler = (): { parameters: JsonObject } => ({ parameters: {} });
  expect(() => new Server(info, [{ ...served, methods: { Nothing: handler } }], options)).toThrow(
    'no method Nothing',
  );
});
