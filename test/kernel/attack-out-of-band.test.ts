import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host, makePlace, type Place } from '../support/hosting.ts';
import { absent, isRoot, needs } from '../support/needs.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
verity = "never"
`;

/** Connects and sends each of its arguments' bytes out of band; stays until its standard input ends, and says what came. */
const send = `
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
for text in sys.argv[2:]:
    connection.send(text.replace("0", "\\0").encode(), socket.MSG_OOB)
print("sent", flush=True)
sys.stdin.read()
connection.settimeout(30)
print(connection.recv(65536).decode().rstrip("\\0"), flush=True)
`;

const tryIt = 'import socket; a, b = socket.socketpair(); a.send(b"x", socket.MSG_OOB)';
const skip =
  needs('kernel', isRoot, 'only root can mount') ||
  absent(
    spawnSync('/usr/bin/python3', ['-c', tryIt]).status === 0,
    'nothing goes out of band over Unix sockets on this kernel (CONFIG_AF_UNIX_OOB)',
  );

describe.skipIf(skip)('bytes sent out of band', () => {
  let place: Place;
  let host: Host;

  beforeAll(async () => {
    place = makePlace('attack-oob');
    host = await Host.start({ folder: place.folder, policy: { '10.toml': policy } });
  });
  afterAll(async () => {
    await host.stop();
    place.remove();
  });

  function sender(...texts: string[]): ChildProcessWithoutNullStreams {
    return spawn('/usr/bin/python3', ['-c', send, host.socketPath, ...texts]);
  }

  /** Processor time of the service, in hundredths of a second. */
  function ticks(): number {
    const fields = readFileSync(`/proc/${host.pid}/stat`, 'latin1')
      .replace(/^.*\) /, '')
      .split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }

  test('do not keep the service busy while nothing comes of them', async () => {
    const client = sender('{');
    const lines = createInterface(client.stdout)[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe('sent');
    const other = host.connect();
    expect((await other.call('Describe')).error).toBeUndefined();
    other.close();
    // A service that spins uses all of any time that it is given: the least of five looks is next to nothing otherwise.
    const used: number[] = [];
    for (let look = 0; look < 5; look++) {
      const before = ticks();
      await wait(300);
      used.push(ticks() - before);
    }
    client.kill('SIGKILL');
    await once(client, 'close');
    expect(Math.min(...used)).toBeLessThan(10);
  });

  test('are bytes like others', async () => {
    const client = sender('{"method":"org.varlink.service.GetInfo"}', '0');
    const lines = createInterface(client.stdout)[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe('sent');
    client.stdin.end();
    const reply: unknown = JSON.parse(String((await lines.next()).value));
    expect(reply).toMatchObject({ parameters: { product: 'cfs-mountd' } });
    await once(client, 'close');
  });
});
