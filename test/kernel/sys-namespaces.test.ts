import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';

import { afterEach, describe, expect, test } from 'vitest';

import { openFile } from '../../src/sys/file.ts';
import { makeNamespaces } from '../../src/sys/idle-child.ts';
import { openPidfd } from '../../src/sys/peer.ts';
import * as namespaces from '../../src/sys/user-namespace.ts';
import { isRoot, needs } from '../support/needs.ts';
import { openDescriptors } from './sys-room.ts';

const skip = needs('kernel', isRoot, 'root');
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    const gone = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGKILL');
    await gone;
  }
});

/** Starts `command`, whose last program is to be `cat`, and waits until that runs. Answers the PID of `cat`. */
async function start(...command: string[]): Promise<number> {
  const [program = '', ...rest] = command;
  const child = spawn(program, [...rest, 'sh', '-c', 'echo $$; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  const text = await new Promise<string>((resolve) =>
    child.stdout.once('data', (chunk: Buffer) => {
      resolve(chunk.toString());
    }),
  );
  return Number(text);
}

function identify(pid: number): namespaces.ProcessNamespaces {
  using pidfd = openPidfd(pid);
  return namespaces.processNamespaces(pidfd.number, pid);
}

describe.skipIf(skip)('whom a process counts as', () => {
  test('root of the initial namespace holds CAP_SYS_ADMIN there', async () => {
    expect(identify(await start('env'))).toEqual({ initial: true, sysAdmin: true, creatorUid: undefined });
  });

  test('a container without a user namespace, and another user, do not', async () => {
    const expected = { initial: true, sysAdmin: false, creatorUid: undefined };
    expect(identify(await start('setpriv', '--bounding-set', '-sys_admin'))).toEqual(expected);
    expect(identify(await start('setpriv', '--reuid', '1000', '--clear-groups'))).toEqual(expected);
  });

  test('root of a user namespace counts as who made the outermost one', async () => {
    const descriptors = openDescriptors();
    const outer = ['setpriv', '--reuid', '1234', '--clear-groups', 'unshare', '--user', '--map-root-user'];
    const expected = {
      initial: false,
      sysAdmin: false,
      creatorUid: 1234,
      outermost: expect.any(BigInt) as bigint,
    };
    expect(identify(await start(...outer))).toEqual(expected);
    expect(identify(await start(...outer, 'unshare', '--user'))).toEqual(expected);
    expect(identify(await start('unshare', '--user', '--map-root-user'))).toEqual({
      ...expected,
      creatorUid: 0,
    });
    for (const child of children) child.stdin?.end();
    await Promise.all(children.map((child) => new Promise((resolve) => child.on('close', resolve))));
    children.length = 0;
    await expect.poll(openDescriptors, { timeout: 30_000 }).toBe(descriptors);
  });

  test('a process that has ended is ESRCH', async () => {
    const pid = await start('env');
    using pidfd = openPidfd(pid);
    const child = children.pop();
    const gone = new Promise((resolve) => child?.on('close', resolve));
    child?.kill('SIGKILL');
    await gone;
    expect(() => namespaces.processNamespaces(pidfd.number, pid)).toThrow(
      expect.objectContaining({ code: 'ESRCH' }),
    );
  });

  test('namespaces that no process lives in', () => {
    const { user, mount } = makeNamespaces();
    using owner = user;
    using inner = mount;
    using own = openFile('/proc/self/ns/user');
    expect(namespaces.ownerOfUserNamespace(owner.number)).toBe(0);
    expect(namespaces.isWithinUserNamespace(own.number, owner.number)).toBe(true);
    expect(namespaces.isWithinUserNamespace(own.number, own.number)).toBe(true);
    expect(namespaces.isWithinUserNamespace(owner.number, own.number)).toBe(false);
    using back = namespaces.owningUserNamespace(inner.number);
    expect(namespaces.sameNamespace(back.number, owner.number)).toBe(true);
  });
});
