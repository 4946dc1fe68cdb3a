import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import { OwnedFd } from '../../../src/sys/fd.ts';
import { createMemfd, writeAll } from '../../../src/sys/file.ts';
import { openFilesLimit, setOpenFilesLimit } from '../../../src/sys/limits.ts';
import { peerCredentials } from '../../../src/sys/peer.ts';
import {
  receiveMessage,
  receiveThrough,
  sendMessage,
  shutdownSocket,
  socketPair,
} from '../../../src/sys/socket.ts';

function received(fd: number, bytes = 65536): { bytes: Buffer; fds: OwnedFd[] } {
  const into = Buffer.alloc(bytes);
  const message = receiveMessage(fd, into);
  if (message.kind !== 'data') throw new Error(message.kind);
  return { bytes: into.subarray(0, message.bytes), fds: message.fds.map((each) => new OwnedFd(each)) };
}

/** The limit of open files below which `count` numbers are free. */
function limitWithRoomFor(count: number, taken: ReadonlySet<number>): number {
  let limit = 0;
  for (let free = 0; free < count; limit++) if (!taken.has(limit)) free++;
  return limit;
}

describe('messages over a Unix socket', () => {
  test('nothing yet, data, the end', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    expect(receiveMessage(other.number, Buffer.alloc(10))).toEqual({ kind: 'again' });
    expect(sendMessage(one.number, Buffer.from('hello'))).toBe(5);
    expect(received(other.number).bytes.toString()).toBe('hello');
    shutdownSocket(one.number, 'both');
    expect(receiveMessage(other.number, Buffer.alloc(10))).toEqual({ kind: 'end' });
    expect(() => sendMessage(other.number, Buffer.from('x'))).toThrow(
      expect.objectContaining({ syscall: 'sendmsg', code: 'EPIPE' }),
    );
  });

  test('reading through a byte tells which message descriptors came with', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    using file = createMemfd('test');
    const into = Buffer.alloc(100);
    const next = (): [string, number] | string => {
      const message = receiveThrough(other.number, into, 0);
      if (message.kind !== 'data') return message.kind;
      for (const fd of message.fds) new OwnedFd(fd).close();
      return [into.subarray(0, message.bytes).toString(), message.fds.length];
    };
    sendMessage(one.number, Buffer.from('first\0'));
    sendMessage(one.number, Buffer.from('second\0third\0four'), [file.number]);
    sendMessage(one.number, Buffer.from('th\0'), [file.number, file.number]);
    const all = [next(), next(), next()];
    expect(all).toEqual([
      ['first\0', 0],
      ['second\0', 1],
      ['third\0', 0],
    ]);
    // The rest of a message may come in one read or in two.
    const rest = [next(), next()].filter((each) => typeof each !== 'string');
    expect(rest.map(([text]) => text).join('')).toBe('fourth\0');
    expect(rest.reduce((sum, [, fds]) => sum + fds, 0)).toBe(2);
    expect(next()).toBe('again');
    shutdownSocket(one.number, 'both');
    expect(next()).toBe('end');
  });

  test.each([1, 2, 253])('%i descriptors travel with the first byte, close-on-exec', (count) => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    using file = createMemfd('test');
    writeAll(file.number, Buffer.from('content'));
    const fds = Array.from({ length: count }, () => file.number);
    expect(sendMessage(one.number, Buffer.from('abc'), fds)).toBe(3);
    const first = received(other.number, 1);
    expect(first.fds).toHaveLength(count);
    const inode = fstatSync(file.number).ino;
    for (const fd of first.fds) {
      expect(fstatSync(fd.number).ino).toBe(inode);
      const info = Buffer.alloc(200);
      const open = openSync(`/proc/self/fdinfo/${fd.number}`, 'r');
      const length = readSync(open, info);
      closeSync(open);
      // O_CLOEXEC, as proc(5) shows it.
      expect(info.toString('latin1', 0, length)).toMatch(/^flags:\t0*2\d{6}$/m);
      fd.close();
    }
    expect(received(other.number)).toEqual({ bytes: Buffer.from('bc'), fds: [] });
  });

  test('254 descriptors are refused before anything is sent', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    expect(() => sendMessage(one.number, Buffer.from('x'), new Array<number>(254).fill(0))).toThrow(
      RangeError,
    );
    expect(receiveMessage(other.number, Buffer.alloc(1))).toEqual({ kind: 'again' });
  });

  test('descriptors beyond the limit of open files are said to be lost, and those that came are the caller’s', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    const { soft } = openFilesLimit();
    const open = readdirSync('/proc/self/fd');
    sendMessage(one.number, Buffer.from('x'), new Array<number>(100).fill(one.number));
    setOpenFilesLimit(limitWithRoomFor(2, new Set(open.map(Number))));
    let message;
    try {
      message = receiveMessage(other.number, Buffer.alloc(1));
    } finally {
      setOpenFilesLimit(soft);
    }
    if (message.kind !== 'truncated') throw new Error(message.kind);
    for (const fd of message.fds) new OwnedFd(fd).close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(open.length);
  });

  test('a full socket takes a part, then nothing', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    let sent = 0;
    for (;;) {
      const result = sendMessage(one.number, chunk);
      if (result === 'again') break;
      sent += result;
    }
    expect(sent).toBeGreaterThan(0);
    let taken = 0;
    const into = Buffer.alloc(chunk.length);
    for (;;) {
      const message = receiveMessage(other.number, into);
      if (message.kind !== 'data') break;
      taken += message.bytes;
    }
    expect(taken).toBe(sent);
  });

  test('two buffers in turn are each written where they are', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    for (let round = 0; round < 50; round++) {
      const text = `round ${round}`;
      sendMessage(one.number, Buffer.from(text));
      expect(received(other.number, 100 + round).bytes.toString()).toBe(text);
    }
  });

  test('the peer is who made the pair', () => {
    const [a, b] = socketPair();
    using one = a;
    using other = b;
    const { pid, uid, gid, gids } = peerCredentials(one.number);
    expect({ pid, uid, gid }).toEqual({
      pid: process.pid,
      uid: process.geteuid?.(),
      gid: process.getegid?.(),
    });
    expect(new Set([gid, ...gids])).toEqual(new Set([gid, ...(process.getgroups?.() ?? [])]));
    expect(other.isOpen).toBe(true);
  });
});
