import { execFile, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Host, makePlace, serviceArguments, writePolicy, type Place } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const policy = `
[[rules]]
name = "unsigned for root"
users = ["root"]
unsigned = true
`;

const run = promisify(execFile);

interface Ended {
  readonly code: unknown;
  readonly stderr: string;
}

/** Runs the service where it is expected to end by itself. */
async function failing(parameters: readonly string[]): Promise<Ended> {
  try {
    await run(process.execPath, parameters);
  } catch (error) {
    if (error instanceof Error && 'code' in error && 'stderr' in error) {
      return { code: error.code, stderr: String(error.stderr) };
    }
    throw error;
  }
  throw new Error('it ended well');
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))("a service's life", () => {
  let place: Place;
  const start = (more: Partial<Parameters<typeof Host.start>[0]> = {}): Promise<Host> =>
    Host.start({ folder: place.folder, policy: { '10.toml': policy }, ...more });

  beforeEach(() => {
    place = makePlace('daemon-life');
  });
  afterEach(() => {
    place.remove();
  });

  test('its socket is for everybody, and its folder stays when it ends', async () => {
    const host = await start();
    expect(lstatSync(host.socketPath).mode & 0o777).toBe(0o666);
    const folder = statSync(join(place.folder, 'run')).ino;
    await host.stop();
    expect(existsSync(host.socketPath)).toBe(false);
    expect(statSync(join(place.folder, 'run')).ino).toBe(folder);
    const again = await start();
    expect(statSync(join(place.folder, 'run')).ino).toBe(folder);
    await again.stop();
  });

  test('it takes the place of a service that died, and of none that lives', async () => {
    const first = await start();
    const sameState = await failing(serviceArguments(place.folder, join(place.folder, 'run', 'other')));
    expect(sameState.code).toBe(1);
    expect(sameState.stderr).toMatch(/^cfs-mountd: .*state is in use by another cfs-mountd\n$/);
    const other = join(place.folder, 'other');
    writePolicy(other, { '10.toml': policy }, {});
    const sameSocket = await failing(serviceArguments(other, first.socketPath));
    expect(sameSocket.code).toBe(1);
    expect(sameSocket.stderr).toMatch(/^cfs-mountd: .*another process serves .*\n$/);
    first.signal('SIGKILL');
    await first.ended();
    expect(existsSync(first.socketPath)).toBe(true);
    const third = await start();
    const client = third.connect();
    expect((await client.call('Describe')).error).toBeUndefined();
    client.close();
    await third.stop();
  });

  test('it does not start without a policy that loads', async () => {
    const socketPath = join(place.folder, 'run', 'socket');
    writePolicy(place.folder, { '10.toml': 'version = ' }, {});
    const broken = await failing(serviceArguments(place.folder, socketPath));
    expect(broken.code).toBe(1);
    expect(broken.stderr).toMatch(/^cfs-mountd: .*10\.toml:1: .*\n$/);
    writePolicy(place.folder, { '10.toml': policy }, {});
    chmodSync(join(place.folder, 'policy', 'policy.d', '10.toml'), 0o666);
    const loose = await failing(serviceArguments(place.folder, socketPath));
    expect(loose.code).toBe(1);
    expect(loose.stderr).toMatch(/^cfs-mountd: .*10\.toml.*\n$/);
    expect(existsSync(socketPath)).toBe(false);
  });

  test('it ends idle connections and exits 0 on SIGTERM', async () => {
    const host = await start();
    const idle = [host.connect(), host.connect()];
    for (const client of idle) expect((await client.call('Describe')).error).toBeUndefined();
    const half = host.connect();
    half.send(Buffer.from('{"method":'));
    await host.stop();
    for (const client of [...idle, half]) {
      expect(await client.receive()).toBeUndefined();
      client.close();
    }
  });

  test("it opens no debugger on Node's signal for that", async () => {
    const host = await start();
    host.signal('SIGUSR1');
    const client = host.connect();
    expect((await client.call('Describe')).error).toBeUndefined();
    client.close();
    await host.stop();
    expect(host.errors).toBe('');
  });

  test('it says what it does to the service manager', async () => {
    const notifySocket = join(place.folder, 'notify');
    const listener = spawn('/usr/bin/python3', [
      join(import.meta.dirname, '../support/notify-listener.py'),
      notifySocket,
    ]);
    const told: string[] = [];
    const lines = createInterface(listener.stdout);
    await new Promise<void>((bound) => {
      lines.on('line', (line) => {
        told.push(String(JSON.parse(line)));
        bound();
      });
    });
    try {
      const host = await start({ environment: { NOTIFY_SOCKET: notifySocket } });
      await host.until('READY=1 was sent', () => told.length >= 3);
      expect(told[1]).toMatch(/^FDSTORE=1\nFDNAME=superblocks-1-[0-9a-f]{16}\nFDPOLL=0$/);
      expect(told[2]).toMatch(/^READY=1\nSTATUS=policy sha256:/);
      host.signal('SIGHUP');
      await host.until('the reload was told', () => told.length >= 5);
      expect(told[3]).toMatch(/^RELOADING=1\nMONOTONIC_USEC=\d+$/);
      expect(told[4]).toMatch(/^READY=1\nSTATUS=policy sha256:/);
      writePolicy(place.folder, { '10.toml': 'version = ' }, {});
      host.signal('SIGHUP');
      await host.until('the failed reload was told', () => told.length >= 7);
      expect(told[6]).toMatch(/^READY=1\nSTATUS=old policy in force: .*10\.toml:1: /);
      const client = host.connect();
      const { parameters } = await client.call('Describe');
      expect(parameters['policy']).toMatchObject({
        lastError: expect.stringContaining('10.toml:1') as string,
      });
      client.close();
      await host.stop();
    } finally {
      listener.kill();
    }
  });

  test('it serves the sockets that the service manager hands over, and leaves them in place', async () => {
    const systemdLike = `
import os, socket, sys
listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listening.bind(sys.argv[1])
listening.listen(16)
if listening.fileno() != 3:
    os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
`;
    writePolicy(place.folder, { '10.toml': policy }, {});
    const handed = join(place.folder, 'handed-over');
    const unused = join(place.folder, 'run', 'unused');
    const service = [process.execPath, ...serviceArguments(place.folder, unused)];
    const child = spawn('/usr/bin/python3', ['-c', systemdLike, handed, ...service], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ready = new Promise<void>((resolve) => {
      createInterface(child.stdout).on('line', (line) => {
        if (line.includes('"ready"')) resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    expect(await Promise.race([ready.then(() => 'ready'), ended])).toBe('ready');
    expect(existsSync(unused)).toBe(false);
    const python = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(sys.argv[1])
s.sendall(b'{"method":"org.varlink.service.GetInfo"}\\0')
print(s.recv(65536).rstrip(b"\\0").decode())
`;
    const asked = spawnSync('/usr/bin/python3', ['-c', python, handed], { encoding: 'utf8' });
    expect(JSON.parse(asked.stdout)).toMatchObject({ parameters: { vendor: 'cfs-mountd' } });
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(handed)).toBe(true);
  });

  test('it refuses a path that is no socket, and says what LISTEN_FDS should be', async () => {
    const socketPath = join(place.folder, 'run', 'socket');
    mkdirSync(join(place.folder, 'run'));
    writeFileSync(socketPath, 'a file');
    writePolicy(place.folder, { '10.toml': policy }, {});
    const refused = await failing(serviceArguments(place.folder, socketPath));
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toMatch(/no socket/);
    symlinkSync('/dev/null', join(place.folder, 'run', 'link'));
    expect((await failing(serviceArguments(place.folder, join(place.folder, 'run', 'link')))).code).toBe(1);
  });

  test('--help and --version say so, and a wrong option is one line', async () => {
    const [program = ''] = serviceArguments(place.folder, 'x');
    expect((await run(process.execPath, [program, '--help'])).stdout).toMatch(/--socket <path>/);
    expect((await run(process.execPath, [program, '--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const wrong = await failing([program, '--nonsense']);
    expect(wrong).toEqual({ code: 1, stderr: "cfs-mountd: unknown option '--nonsense'\n" });
  });

  test('it takes other limits from the administrator, and tells them', async () => {
    const host = await start({ arguments: ['--limit', 'connectionsPerUser=2', '--limit', 'stores=3'] });
    const client = host.connect();
    const second = host.connect();
    const { parameters } = await client.call('Describe');
    expect(parameters['limits']).toMatchObject({ connectionsPerUser: 2, stores: 3, connections: 4096 });
    const refused = host.connect();
    expect((await refused.receive())?.parameters).toEqual({ limit: 'connectionsPerUser', value: 2 });
    for (const each of [client, second, refused]) each.close();
    await host.stop();
    for (const [given, said] of [
      [
        'many',
        "cfs-mountd: option '--limit <name=number>' argument 'many' is invalid. It is not NAME=NUMBER.\n",
      ],
      ['moon=1', 'cfs-mountd: there is no limit "moon"\n'],
    ] as const) {
      const [program = ''] = serviceArguments(place.folder, 'x');
      expect(await failing([program, '--limit', given])).toEqual({ code: 1, stderr: said });
    }
  });
});
