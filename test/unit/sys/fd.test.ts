import { fstatSync, openSync } from 'node:fs';

import { expect, test } from 'vitest';

import { errnoName, SyscallError } from '../../../src/sys/errno.ts';
import { closeFd, OwnedFd } from '../../../src/sys/fd.ts';

test('the end of a block closes a descriptor once', () => {
  const number = openSync('/dev/null', 'r');
  {
    using fd = new OwnedFd(number);
    expect(fd.number).toBe(number);
    expect(fd.isOpen).toBe(true);
  }
  expect(() => fstatSync(number)).toThrow('EBADF');
  expect(() => {
    closeFd(number);
  }).toThrow(expect.objectContaining({ syscall: 'close', code: 'EBADF' }));
});

test('what was taken or moved is the new owner’s', () => {
  const closed: number[] = [];
  const close = (fd: number): void => {
    closed.push(fd);
  };
  const first = new OwnedFd(7, close);
  const second = first.moved();
  first.close();
  expect(closed).toEqual([]);
  expect(() => first.number).toThrow('closed or was taken');
  expect(second.take()).toBe(7);
  second.close();
  expect(closed).toEqual([]);
  const third = new OwnedFd(8, close);
  third.close();
  third.close();
  expect(closed).toEqual([8]);
});

test('errors are named as the manual pages do', () => {
  expect(errnoName(11)).toBe('EAGAIN');
  expect(errnoName(95)).toBe('EOPNOTSUPP');
  expect(errnoName(15)).toBe('ENOTBLK');
  expect(errnoName(4095)).toBe('E4095');
  expect(new SyscallError('fsmount', 'EPERM', 'why').message).toBe('fsmount: EPERM (why)');
  expect(new SyscallError('fsmount', 'EPERM').message).toBe('fsmount: EPERM');
});
