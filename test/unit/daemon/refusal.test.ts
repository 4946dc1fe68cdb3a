import { writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { NotSigned } from '../../../src/api/mount-delegation.ts';
import { policyChangedReply, Refused, shortName, tell } from '../../../src/daemon/calls/refusal.ts';
import { KernelUnsupportedError } from '../../../src/mount/plan.ts';
import { PolicyInvalid } from '../../../src/policy/fault.ts';
import type { RefusalReason } from '../../../src/policy/question.ts';
import { SyscallError } from '../../../src/sys/errno.ts';
import { parseReply } from '../../../src/varlink/message.ts';

/** What the peer is told of `thrown`: the error's short name and parameters. */
function told(thrown: unknown): [string, unknown] {
  const { error } = tell(thrown);
  return [shortName(error), error.parameters];
}

function thrownBy(work: () => void): unknown {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('what a peer is told', () => {
  const refusals: RefusalReason[] = [
    { kind: 'NotSigned', parameters: { digest: 'sha256:00' } },
    { kind: 'SignatureInvalid' },
    { kind: 'KeyNotTrusted', parameters: { keyIds: ['ab', 'cd'] } },
    { kind: 'Expired', parameters: { what: 'the statement', at: '2026-01-01T00:00:00Z' } },
    { kind: 'RolledBack', parameters: { name: 'x', version: 1, newest: 2 } },
    { kind: 'DeniedByPolicy' },
    { kind: 'StoreNotFound', parameters: { name: 'x' } },
    { kind: 'IncompatibleImage' },
  ];

  test.each(refusals)('a refusal by the policy is the error of its kind: $kind', (reason) => {
    const refused = new Refused({ ...reason, rule: 'a rule', message: 'a sentence for the log' });
    const parameters = 'parameters' in reason ? reason.parameters : {};
    expect(told(refused)).toEqual([reason.kind, { ...parameters, reason: 'a sentence for the log' }]);
    expect(tell(refused)).toMatchObject({ reason: 'a sentence for the log', bug: false });
  });

  test('an error of the interface stays what it is', () => {
    const error = new NotSigned({ digest: 'sha256:00' });
    expect(tell(error).error).toBe(error);
  });

  test('a call that the kernel refused is named', () => {
    expect(told(new SyscallError('fsmount', 'EPERM'))).toEqual([
      'SystemError',
      { call: 'fsmount', errno: 'EPERM', detail: '' },
    ]);
  });

  test('so is one that Node made, as on a disk that is full', () => {
    expect(
      told(
        thrownBy(() => {
          writeFileSync('/dev/full', 'versions');
        }),
      ),
    ).toEqual(['SystemError', { call: 'write', errno: 'ENOSPC', detail: '' }]);
    expect(
      told(
        thrownBy(() => {
          writeFileSync('/proc/self/missing', '');
        }),
      ),
    ).toEqual(['SystemError', { call: 'open', errno: 'ENOENT', detail: '/proc/self/missing' }]);
  });

  test('what the kernel cannot do comes with what would work', () => {
    expect(told(new KernelUnsupportedError('fs-verity', 'verity "ifPresent" works'))).toEqual([
      'KernelUnsupported',
      { feature: 'fs-verity (verity "ifPresent" works)' },
    ]);
  });

  test('a policy that does not load is named by its first fault', () => {
    const fault = { file: '/etc/x.toml', line: 3, key: 'rules[0].users', reason: 'is empty' };
    expect(told(new PolicyInvalid([fault]))).toEqual([
      'PolicyInvalid',
      { file: '/etc/x.toml', line: 3, reason: 'rules[0].users: is empty' },
    ]);
  });

  test.each([new Error('secret detail'), new TypeError('secret detail'), 'secret detail', undefined])(
    'anything else is a bug, told without detail: %s',
    (thrown) => {
      const answer = tell(thrown);
      expect(answer.bug).toBe(true);
      expect(shortName(answer.error)).toBe('SystemError');
      expect(JSON.stringify(answer.error.parameters)).not.toContain('secret');
    },
  );

  test('a reply that an old policy decided is replaced by a whole error', () => {
    const bytes = policyChangedReply();
    expect(bytes.at(-1)).toBe(0);
    const reply = parseReply(bytes.subarray(0, -1));
    expect(reply.error).toMatch(/\.DeniedByPolicy$/);
    expect(reply.parameters['reason']).toMatch(/reloaded/);
  });
});
