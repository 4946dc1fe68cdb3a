import { expect, test } from 'vitest';
import { ObjectsMissing } from '../../../src/api/mount-delegation.ts';
import { fromFailure, toFailure } from '../../../src/daemon/threads/failures.ts';
import { KernelUnsupportedError } from '../../../src/mount/plan.ts';
import { SyscallError } from '../../../src/sys/errno.ts';

const carried = (error: unknown): Error => fromFailure(structuredClone(toFailure(error)));

test('a failure is the same on the other thread', () => {
  const call = new SyscallError('fsconfig', 'EINVAL', 'the kernel says why');
  expect(carried(call)).toBeInstanceOf(SyscallError);
  expect(carried(call)).toMatchObject({ syscall: 'fsconfig', code: 'EINVAL', detail: 'the kernel says why' });
  expect(carried(new SyscallError('close', 'EBADF')).message).toBe('close: EBADF');
  const refusal = new ObjectsMissing({ count: 1, objects: ['ab/cd'], reason: 'not there' });
  expect(carried(refusal)).toMatchObject({ name: refusal.name, parameters: refusal.parameters });
  const kernel = new KernelUnsupportedError('fs-verity', 'something else would work');
  expect(carried(kernel)).toBeInstanceOf(KernelUnsupportedError);
  expect(carried(kernel)).toMatchObject({ feature: 'fs-verity', remedy: 'something else would work' });
});

test('what nobody expects is a bug, with its message and stack', () => {
  const bug = new TypeError('undefined is not a function');
  expect(carried(bug).message).toBe(bug.message);
  expect(carried(bug).stack).toBe(bug.stack);
  expect(carried('a text').message).toBe('a text');
});
