import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { OwnedFd } from '../../../src/sys/fd.ts';
import { openFilesLimit, raiseOpenFilesLimit } from '../../../src/sys/limits.ts';
import { notifyServiceManager } from '../../../src/sys/notify.ts';
import { isAlive, isListeningUnixStream, openPidfd, peerPidfd } from '../../../src/sys/peer.ts';
import { watchReadable, watchWritable } from '../../../src/sys/readiness.ts';
import {
  acceptUnix,
  connectUnix,
  listenUnix,
  receiveMessage,
  sendMessage,
  socketPair,
} from '../../../src/sys/socket.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'cfs-socket-'));
  chmodSync(directory, 0o755);
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

function refused(code: string): unknown {
  return expect.objectContaining({ name: 'SyscallError', code }) as unknown;
}

function open(): number {
  return readdirSync('/proc/self/fd').length;
}

async function readable(fd: OwnedFd): Promise<void> {
  await new Promise<void>((resolve) => {
    const watch = watchReadable(fd.number, () => {
      watch.stop();
      resolve();
    });
  });
}

describe('listening', () => {
  test('a socket has its mode, takes connections, and tells the peer', () => {
    const path = join(directory, 'served');
    const before = open();
    {
      using listener = listenUnix(path, 0o666, 10);
      expect(statSync(path).mode & 0o7777).toBe(0o666);
      expect(isListeningUnixStream(listener.number)).toBe(true);
      expect(acceptUnix(listener.number)).toBeUndefined();
      using client = connectUnix(path);
      using server = acceptUnix(listener.number);
      if (server === undefined) throw new Error('no connection');
      expect(isListeningUnixStream(server.number)).toBe(false);
      using pidfd = peerPidfd(server.number);
      expect(isAlive(pidfd.number)).toBe(true);
      sendMessage(client.number, Buffer.from('x'));
      expect(receiveMessage(server.number, Buffer.alloc(5))).toMatchObject({ kind: 'data', bytes: 1 });
      expect(() => listenUnix(path, 0o666, 10)).toThrow(refused('EADDRINUSE'));
    }
    expect(open()).toBe(before);
    // Nobody serves it any more, and it is replaced.
    expect(() => connectUnix(path)).toThrow(refused('ECONNREFUSED'));
    listenUnix(path, 0o600, 10).close();
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['served']);
    rmSync(path);
  });

  test('a file that is no socket is left alone', () => {
    const path = join(directory, 'file');
    writeFileSync(path, 'precious');
    expect(() => listenUnix(path, 0o666, 10)).toThrow(refused('EADDRINUSE'));
    expect(statSync(path).size).toBe(8);
    rmSync(path);
  });

  test('a path longer than the kernel’s struct is served all the same', () => {
    const path = join(directory, 'x'.repeat(120), 'socket');
    mkdirSync(dirname(path));
    using listener = listenUnix(path, 0o600, 1);
    connectUnix(path).close();
    acceptUnix(listener.number)?.close();
  });

  test('what is missing, and what is no socket', () => {
    expect(() => connectUnix(join(directory, 'missing'))).toThrow(refused('ENOENT'));
    expect(isListeningUnixStream(0)).toBe(false);
  });
});

describe('readiness', () => {
  test('comes for reading and writing of one descriptor, until stopped', async () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    let writable = 0;
    const sent = new Promise<void>((resolve) => {
      const watch = watchWritable(other.number, () => {
        writable++;
        watch.stop();
        resolve();
      });
    });
    expect(() => watchWritable(other.number, () => undefined)).toThrow('watched already');
    const got = readable(other);
    await sent;
    sendMessage(one.number, Buffer.from('x'));
    await got;
    expect(writable).toBe(1);
    expect(receiveMessage(other.number, Buffer.alloc(1))).toMatchObject({ kind: 'data' });
    // A new descriptor of the same number is a new watch.
    one.close();
    await readable(other);
    expect(receiveMessage(other.number, Buffer.alloc(1))).toEqual({ kind: 'end' });
  });

  test('promises settle in between', async () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    sendMessage(one.number, Buffer.from('x'));
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      const watch = watchReadable(other.number, () => {
        watch.stop();
        void Promise.resolve().then(() => order.push('microtask'));
        setImmediate(() => {
          order.push('immediate');
          resolve();
        });
      });
    });
    expect(order).toEqual(['microtask', 'immediate']);
  });

  test('a pidfd is readable when its process ends', async () => {
    const child = execFile('sleep', ['1000']);
    if (child.pid === undefined) throw new Error('no child');
    using pidfd = openPidfd(child.pid);
    expect(isAlive(pidfd.number)).toBe(true);
    const ended = readable(pidfd);
    const reaped = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGKILL');
    await ended;
    await reaped;
    expect(isAlive(pidfd.number)).toBe(false);
  });
});

test('the limit of open files is raised to the hard limit, and that one where it may be', () => {
  const { hard } = openFilesLimit();
  expect(raiseOpenFilesLimit(0)).toBe(hard);
  expect(openFilesLimit()).toEqual({ soft: hard, hard });
  // Beyond the hard one it takes CAP_SYS_RESOURCE, which root of a container may lack.
  const raised = raiseOpenFilesLimit(hard + 1);
  expect([hard, hard + 1]).toContain(raised);
  expect(openFilesLimit()).toEqual({ soft: raised, hard: raised });
});

test('a service manager hears of it, by path and by abstract name', async () => {
  const receiver = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('ready', flush=True)
print(s.recv(100).decode(), flush=True)
`;
  for (const name of [join(directory, 'notify'), `@cfs-notify-${process.pid}`]) {
    const child = execFile('python3', ['-c', receiver, name]);
    let text = '';
    await new Promise<void>((resolve) => {
      child.stdout?.on('data', (chunk: string) => {
        text += chunk;
        if (text === 'ready\n') expect(notifyServiceManager('READY=1', name)).toBe(true);
      });
      child.on('close', () => {
        resolve();
      });
    });
    expect(text).toBe('ready\nREADY=1\n');
  }
  expect(notifyServiceManager('READY=1', undefined)).toBe(false);
});
