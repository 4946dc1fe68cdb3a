import { describe, expect, test } from 'vitest';
import { FieldInvalid } from '../../../src/policy/fault.ts';
import { coversPattern, matchesPattern, parsePattern, patternsMeet } from '../../../src/policy/pattern.ts';
import { indexTomlLines } from '../../../src/policy/toml-lines.ts';
import type { NamePattern } from '../../../src/policy/pattern.ts';
import { Random } from '../../support/random.ts';
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

  test.each([
    ['a/**', 'a/b/*', true, true],
    ['a/*', 'a/b/*', false, false],
    ['a/*', 'a/**', false, true],
    ['**', '*/*', true, true],
    ['*', '**', false, true],
    ['a*', '*b', false, true],
    ['a*c', '*b', false, false],
    ['*a', 'b*a', true, true],
    ['a/*/c', 'a/b*/c', true, true],
    ['a/*/c', '**/d', false, false],
    ['**/c', 'a/**', false, true],
    ['a', 'a', true, true],
    ['ab', 'a', false, false],
    ['a/v*', 'a/v', true, true],
  ])('%s and %s: covers %s, meets %s', (a, b, covers, meets) => {
    const [one, other] = [parsePattern(a), parsePattern(b)];
    expect(coversPattern(one, other)).toBe(covers);
    expect([patternsMeet(one, other), patternsMeet(other, one)]).toEqual([meets, meets]);
  });

  test('of which one covers another, or which meet, do so for every short name', () => {
    const random = new Random(11);
    const word = (letters: readonly [string, ...string[]]): string =>
      Array.from({ length: 1 + random.below(4) }, () => random.pick(letters)).join('');
    const parsed = (text: string): NamePattern | undefined => {
      try {
        return parsePattern(text);
      } catch {
        return undefined;
      }
    };
    const names = ['a', 'b', 'ab', 'ba', 'aa', 'a/a', 'a/b', 'b/a', 'a/b/a', 'ab/a', 'aab', 'a/ab', 'bab/b'];
    const seen = { covers: 0, apart: 0 };
    for (let round = 0; round < 20_000; round++) {
      const [one, other] = [
        parsed(word(['a', 'b', '/', '*', '**'])),
        parsed(word(['a', 'b', '/', '*', '**'])),
      ];
      if (one === undefined || other === undefined) continue;
      const [inOne, inOther] = [one, other].map((each) => names.filter((name) => matchesPattern(each, name)));
      const where = `seed ${random.seed}: ${one} and ${other}`;
      if (coversPattern(one, other)) {
        seen.covers++;
        expect(
          inOther?.every((name) => matchesPattern(one, name)),
          where,
        ).toBe(true);
      }
      if (!patternsMeet(one, other)) {
        seen.apart++;
        expect(
          inOne?.some((name) => matchesPattern(other, name)),
          where,
        ).toBe(false);
      }
    }
    expect(Math.min(seen.covers, seen.apart)).toBeGreaterThan(1000);
  });

  test('with many stars are compared in bearable steps', () => {
    const [one, other] = [parsePattern('*a'.repeat(127)), parsePattern(`${'a*'.repeat(126)}b`)];
    expect(patternsMeet(one, other)).toBe(false);
    expect(coversPattern(one, other)).toBe(false);
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
