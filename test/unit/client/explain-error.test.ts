import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { explainError } from '../../../src/client/explain-error.ts';
import { VarlinkError } from '../../../src/varlink/error.ts';

const interfaceName = 'io.cfsmountd.MountDelegation';

describe('errors explain themselves', () => {
  test.each([
    [
      new VarlinkError(`${interfaceName}.DeniedByPolicy`, { reason: 'rule "a": is for root' }),
      'DeniedByPolicy: rule "a": is for root',
    ],
    [
      new VarlinkError(`${interfaceName}.RolledBack`, { name: 'a', version: 1, newest: 2 }),
      'RolledBack: a is version 1, and version 2 was mounted here already',
    ],
    [
      new VarlinkError(`${interfaceName}.Expired`, { what: 'the key "a"', at: '2020-01-01T00:00:00Z' }),
      'Expired: the key "a" expired at 2020-01-01T00:00:00Z',
    ],
    [
      new VarlinkError(`${interfaceName}.Expired`, { what: 'the key "a"', at: '9999-01-01T00:00:00Z' }),
      'Expired: the key "a" is not valid before 9999-01-01T00:00:00Z',
    ],
    [
      new VarlinkError(`${interfaceName}.ImageNotFound`, { name: 'tools.cfs' }),
      'ImageNotFound: no image directory of the policy holds tools.cfs; names are without the suffix .cfs',
    ],
    [
      new VarlinkError(`${interfaceName}.PolicyInvalid`, {
        file: '/p/a.toml',
        line: 2,
        reason: 'rules: empty',
      }),
      'PolicyInvalid: /p/a.toml:2: rules: empty',
    ],
    [
      new VarlinkError(`${interfaceName}.PolicyInvalid`, {
        file: '/p',
        line: 0,
        reason: '/p belongs to user 1',
      }),
      'PolicyInvalid: /p belongs to user 1',
    ],
    [
      new VarlinkError(`${interfaceName}.ObjectsMissing`, {
        count: 5,
        objects: ['a', 'b', 'c', 'd', 'e'],
        reason: 'in no store',
      }),
      'ObjectsMissing: 5 of the image’s files cannot be used (a, b, c, …): in no store',
    ],
    [
      new VarlinkError(`${interfaceName}.SystemError`, { call: 'fsmount', errno: 'EPERM', detail: '' }),
      'SystemError: fsmount: EPERM',
    ],
    [
      new VarlinkError(`${interfaceName}.SystemError`, { call: '', errno: '', detail: 'its log says more' }),
      'SystemError: its log says more',
    ],
    [
      new VarlinkError('org.varlink.service.InvalidParameter', { parameter: 'digest' }),
      'InvalidParameter: the service does not take digest',
    ],
    [new VarlinkError(`${interfaceName}.OutOfCheese`, { left: 0 }), 'OutOfCheese: {"left":0}'],
    [new VarlinkError('constructor', {}), 'constructor: {}'],
    [new Error('plain'), 'plain'],
  ])('%s', (error, sentence) => {
    expect(explainError(error)).toBe(sentence);
  });

  test('what a service writes cannot move the cursor or start a line', () => {
    const error = new VarlinkError(`${interfaceName}.DeniedByPolicy`, { reason: 'a\u001b[2J\nb\r' });
    expect(explainError(error)).toBe('DeniedByPolicy: a\uFFFD[2J; b\uFFFD');
  });

  test('every error of the interface has a sentence', () => {
    const idl = readFileSync(
      new URL('../../../src/api/io.cfsmountd.MountDelegation.varlink', import.meta.url),
      'utf8',
    );
    const names = [...idl.matchAll(/^error (\w+)/gm)].map((match) => match[1] ?? '');
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) {
      expect(explainError(new VarlinkError(`${interfaceName}.${name}`, {})), name).not.toContain('{}');
    }
  });
});
