import { describe, expect, test } from 'vitest';
import { FieldInvalid } from '../../../src/policy/fault.ts';
import { matchesPattern, parsePattern } from '../../../src/policy/pattern.ts';
import { indexTomlLines } from '../../../src/policy/toml-lines.ts';
import { nearestName } from '../../../src/policy/nearest-name.ts';
import { parseAccounts } from '../../../src/policy/accounts.ts';

describe('patterns', () => {
  test.each([
    ['a', 'a', true],
    ['a', 'b', false],
    ['a', 'a/b', false],
    ['*', 'a', true],
    ['*', 'a/b', false],
    ['**', 'a/b', true],
    ['a/*', 'a/b', true],
    ['a/*', 'a/b/c', false],
    ['a/*', 'a', false],
    ['a/**', 'a/b/c', true],
    ['a/**', 'a', false],
    ['a/**', 'ab', false],
    ['a/*/c', 'a/b/c', true],
    ['a/*/c', 'a/b/d/c', false],
    ['a/**/c', 'a/b/d/c', true],
    ['a/v*', 'a/v', true],
    ['a/v*.1', 'a/v2.1', true],
    ['a/v*.1', 'a/v2/3.1', false],
    ['**/c', 'a/b/c', true],
    ['*a*b*', 'xxaxxbxx', true],
    ['*a*b*', 'xxbxxaxx', false],
    ['a.c', 'abc', false],
    ['r:5000/*', 'r:5000/app', true],
  ])('%s and %s: %s', (pattern, name, expected) => {
    expect(matchesPattern(parsePattern(pattern), name)).toBe(expected);
  });

  test.each([
    '',
    '/a',
    'a/',
    'a//b',
    '.',
    'a/../b',
    'a/./b',
    'ä',
    'a b',
    'a***b',
    '?',
    '[a]',
    'a'.repeat(256),
  ])('%j is none', (text) => {
    expect(() => parsePattern(text)).toThrow(FieldInvalid);
  });

  test('with many stars are matched without trying anything twice', () => {
    const pattern = parsePattern('*a'.repeat(127));
    expect(matchesPattern(pattern, `${'a'.repeat(254)}b`)).toBe(false);
    expect(matchesPattern(pattern, 'a'.repeat(255))).toBe(true);
  });
});

describe('lines of TOML', () => {
  const lines = indexTomlLines(
    [
      '# [[rules]]',
      'top = 1',
      '[[rules]] # first',
      'name = "a # [[rules]]"',
      'users = [ # who',
      '  "x", "y",',
      '  """',
      'a, b""",',
      '  { a = [1, 2] },',
      ']',
      'inline = { a = 1 }',
      '[[rules]]',
      '"signed-by" = [',
      "'''",
      "z''']",
      '[table]',
      'a.b = 1',
    ].join('\n'),
  );

  test.each([
    ['top', 2],
    ['rules', 3],
    ['rules[0]', 3],
    ['rules[0].name', 4],
    ['rules[0].missing', 3],
    ['rules[0].users', 5],
    ['rules[0].users[0]', 6],
    ['rules[0].users[1]', 6],
    ['rules[0].users[2]', 7],
    ['rules[0].users[3]', 9],
    ['rules[0].users[3].a', 9],
    ['rules[0].inline.a', 11],
    ['rules[1]', 12],
    ['rules[1].signed-by', 13],
    ['rules[1].signed-by[0]', 14],
    ['table.a.b', 17],
    ['nothing', 0],
  ])('%s stands in line %i', (field, line) => {
    expect(lines.lineOf(field)).toBe(line);
  });
});

test('the nearest name is one that is near', () => {
  expect(nearestName('rule', ['rules', 'keys'])).toBe('rules');
  expect(nearestName('signed_by', ['signed-by', 'name'])).toBe('signed-by');
  expect(nearestName('Users', ['users'])).toBe('users');
  expect(nearestName('x', ['rules', 'keys'])).toBeUndefined();
  expect(nearestName('completely-else', ['rules', 'keys'])).toBeUndefined();
});

test('accounts are read from passwd and group', () => {
  const accounts = parseAccounts(
    'alice:x:1000:1000::/:/bin/sh\nalice:x:1:1:::\nbroken\nmax:x:4294967295:1:::\n',
    'g:x:7:alice\n',
  );
  expect(accounts.user('alice')).toBe(1000);
  expect(accounts.user('root')).toBe(0);
  expect(accounts.user('broken')).toBeUndefined();
  expect(accounts.user('max')).toBeUndefined();
  expect(accounts.group('g')).toBe(7);
  expect(accounts.group('alice')).toBeUndefined();
});
