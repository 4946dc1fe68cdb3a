import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../src/daemon/callers/limits.ts';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { interfaceName, type RawClient } from '../support/raw-client.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;

/** Asks for an unsigned image, in Python: the answer's error and the audit line show who the caller counts as. */
const ask = `
import array, json, os, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
call = {"method": "${interfaceName}." + sys.argv[2], "parameters": json.loads(sys.argv[3])}
connection.sendall(json.dumps(call).encode() + b"\\0")
answer = b""
while not answer.endswith(b"\\0"):
    part = connection.recv(65536)
    if not part:
        break
    answer += part
print(answer.rstrip(b"\\0").decode())
`;

/** Runs the rest of the command as user 33 of a user namespace that root makes, where that is user 100033 outside. */
const inNamespaceOfRoot = `
import ctypes, os, sys
ready_read, ready_write = os.pipe()
mapped_read, mapped_write = os.pipe()
child = os.fork()
if child == 0:
    if ctypes.CDLL(None).unshare(0x10000000) != 0:  # CLONE_NEWUSER
        os._exit(1)
    os.write(ready_write, b"x")
    os.read(mapped_read, 1)
    os.setgroups([])
    os.setresgid(33, 33, 33)
    os.setresuid(33, 33, 33)
    os.execvp(sys.argv[1], sys.argv[1:])
os.close(ready_write)
os.read(ready_read, 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write("0 100000 1000")
os.write(mapped_write, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`;

interface Answer {
  readonly error?: string;
  readonly parameters?: unknown;
}

describe.skipIf(needs('kernel', isRoot, 'only root can take other identities'))(
  'the peers of a service',
  () => {
    let place: Place;
    let host: Host;

    beforeAll(async () => {
      place = makePlace('daemon-peers');
      host = await Host.start({ folder: place.folder, policy: { '10.toml': policy } });
    });
    afterAll(async () => {
      await host.stop();
      place.remove();
    });

    /** Asks through `wrapper`, a program that takes the rest as its command. */
    function askThrough(wrapper: readonly string[], method: string, parameters: object = {}): Answer {
      const command = [
        ...wrapper,
        '/usr/bin/python3',
        '-c',
        ask,
        host.socketPath,
        method,
        JSON.stringify(parameters),
      ];
      const done = spawnSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' });
      if (done.status !== 0) throw new Error(`${command.slice(0, 4).join(' ')}: ${done.stderr}`);
      const answer: unknown = JSON.parse(done.stdout);
      return answer as Answer;
    }

    /** Who the caller counted as, by the audit line of a Verify asked through `wrapper`. */
    async function countedAs(wrapper: readonly string[]): Promise<unknown> {
      const before = host.audit.length;
      askThrough(wrapper, 'Verify', { image: { name: 'absent' } });
      await host.until('the decision is in the log', () => host.audit.length > before);
      return host.audit[before]?.['user'];
    }

    /** Waits until a connection is served again: the service learns of those that ended in its own time. */
    async function roomAgain(): Promise<void> {
      const end = Date.now() + 30_000;
      for (;;) {
        const client = host.connect();
        const reply = await client.call('Describe').catch(() => undefined);
        client.close();
        if (reply !== undefined && reply.error === undefined) return;
        if (Date.now() > end) throw new Error('there is no room for a connection');
      }
    }

    const asUser = ['setpriv', '--reuid=1234', '--regid=1234', '--clear-groups', '--'];

    test.each(['KeptMounts', 'Drop'])('only root may call %s', (method) => {
      expect(askThrough([], method).error).toBeUndefined();
      expect(askThrough(asUser, method).error).toBe('org.varlink.service.PermissionDenied');
    });

    test('only root may reload: not a user, not root of a user namespace, not uid 0 without CAP_SYS_ADMIN', () => {
      const denied = 'org.varlink.service.PermissionDenied';
      expect(askThrough([], 'Reload').error).toBeUndefined();
      expect(askThrough(asUser, 'Reload').error).toBe(denied);
      expect(askThrough([...asUser, 'unshare', '--user', '--map-root-user', '--'], 'Reload').error).toBe(
        denied,
      );
      const bounded = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin', '--'];
      expect(askThrough(bounded, 'Reload').error).toBe(denied);
      expect(askThrough(['unshare', '--user', '--map-root-user', '--'], 'Reload').error).toBe(denied);
    });

    test('a process in user namespaces counts as who made the outermost', async () => {
      expect(await countedAs(asUser)).toBe(1234);
      const nested = ['unshare', '--user', '--map-root-user', '--'];
      expect(await countedAs([...asUser, ...nested])).toBe(1234);
      expect(await countedAs([...asUser, ...nested, ...nested])).toBe(1234);
    });

    test('in a user namespace that root made it counts as the ID that the kernel reports', async () => {
      const rootMade = ['/usr/bin/python3', '-c', inNamespaceOfRoot];
      expect(await countedAs(rootMade)).toBe(100_033);
    });

    test('whoever sends what is not varlink loses the connection, and nobody else', async () => {
      const good = host.connect();
      const bad: [string, Buffer][] = [
        ['no JSON', Buffer.from('hello\0')],
        ['an empty message', Buffer.from('\0')],
        ['no object', Buffer.from('[]\0')],
        ['no method', Buffer.from('{}\0')],
        ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d, 0])],
      ];
      for (const [what, bytes] of bad) {
        const client = host.connect();
        client.send(bytes);
        expect(await client.receive(), what).toBeUndefined();
        client.close();
      }
      expect((await good.call('Describe')).error).toBeUndefined();
      good.close();
    });

    test('a message that is too long ends the connection', async () => {
      const client = host.connect();
      const part = Buffer.alloc(64 * 1024, 'x');
      let sent = 0;
      try {
        while (sent <= limits.messageBytes + part.length) {
          const count = client.send(part);
          sent += count;
          if (count === 0) await new Promise((resolve) => setImmediate(resolve));
        }
      } catch {
        // EPIPE: the service has had enough.
      }
      expect(await client.receive()).toBeUndefined();
      client.close();
    });

    test.each([
      ['InterfaceNotFound', 'org.example.Nothing.Method', {}],
      ['MethodNotFound', `${interfaceName}.Nothing`, {}],
      ['InvalidParameter', `${interfaceName}.Mount`, {}],
      ['InvalidParameter', `${interfaceName}.Mount`, { image: { name: 'x' }, nonsense: 1 }],
      ['InvalidParameter', `${interfaceName}.Mount`, { image: { name: 7 } }],
      ['InvalidParameter', `${interfaceName}.Mount`, { image: { fileDescriptor: 0 } }],
      ['InvalidParameter', `${interfaceName}.Verify`, { image: { name: '../x' } }],
      ['InvalidParameter', `${interfaceName}.Describe`, { x: 1 }],
    ] as const)('a bad call gets %s: %s %j', async (name, method, parameters) => {
      const client = host.connect();
      expect((await client.call(method, parameters)).error).toBe(`org.varlink.service.${name}`);
      expect((await client.call('Describe')).error).toBeUndefined();
      client.close();
    });

    test('a oneway call gets no answer and holds nothing up', async () => {
      const client = host.connect();
      const call = { method: `${interfaceName}.Mount`, parameters: { image: { name: 'x' } }, oneway: true };
      client.send(Buffer.from(`${JSON.stringify(call)}\0`));
      expect((await client.call('Describe')).parameters['version']).toBeDefined();
      client.close();
    });

    test('connections beyond the share of one user are refused by name, and other users still connect', async () => {
      const clients: RawClient[] = [];
      for (let count = 0; count < limits.connectionsPerUser; count += 1) clients.push(host.connect());
      const extra = host.connect();
      const refusal = await extra.receive();
      expect(refusal?.error).toBe(`${interfaceName}.LimitExceeded`);
      expect(refusal?.parameters).toEqual({ limit: 'connectionsPerUser', value: limits.connectionsPerUser });
      expect(await extra.receive()).toBeUndefined();
      extra.close();
      expect(askThrough(asUser, 'Describe').error).toBeUndefined();
      for (const client of clients) client.close();
      await roomAgain();
    });

    test('a client that vanishes in the middle of everything leaves nothing behind', async () => {
      const script = `
import array, os, socket, sys
for count in range(50):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    fds = array.array("i", [os.memfd_create("vanished") for _ in range(3)])
    connection.sendmsg([b'{"method":'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    for fd in fds:
        os.close(fd)
    connection.close()
`;
      const child = spawn('/usr/bin/python3', ['-c', script, host.socketPath], { stdio: 'inherit' });
      expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
      const held = (): string =>
        spawnSync('ls', ['-l', join('/proc', String(host.pid), 'fd')], { encoding: 'utf8' }).stdout;
      await host.until('the descriptors are closed', () => !held().includes('memfd:vanished'));
    });
  },
);
