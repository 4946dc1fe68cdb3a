import { describe, expect, test } from 'vitest';
import { JsonError, formatPath, parseJson, type JsonValue } from '../../../src/varlink/json.ts';

const limits = { depthMax: 8 };

function parse(text: string | Uint8Array): JsonValue {
  return parseJson(typeof text === 'string' ? Buffer.from(text) : text, limits);
}

function fault(text: string | Uint8Array): JsonError {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof JsonError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('what is taken', () => {
  test.each([
    'null',
    '"ä\\u00e4\\\\\\"{[:"',
    '{"a":{"b":[1,2,{"c":null}]},"d":":::"}',
    '[9007199254740991,-9007199254740991,0.5,-1e3,1e300]',
    '{"a":1,"A":1,"":2}',
    '{"__proto__":{"a":1},"constructor":2}',
    '"\\ud83d\\ude00"',
    '"1234567890123456789012"',
    '[[[[[[[[]]]]]]]]',
    ' { "a" : 1 } ',
  ])('%s', (text) => {
    expect(parse(text)).toEqual(JSON.parse(text));
  });

  test('__proto__ is a member like any other', () => {
    const value = parse('{"__proto__":{"admin":true}}');
    expect(Object.keys(value as object)).toEqual(['__proto__']);
    expect((value as Record<string, unknown>)['admin']).toBeUndefined();
  });
});

describe('what is refused, and where', () => {
  test.each([
    ['{"a":1,"a":2}', 'is given twice', 'a'],
    ['{"a":1,"\\u0061":2}', 'is given twice', 'a'],
    ['{"__proto__":1,"__proto__":2}', 'is given twice', '__proto__'],
    ['{"x":[0,{"b c":{"d":1,"d":1}}]}', 'is given twice', 'x[1]["b c"].d'],
    ['{"n":9007199254740992}', 'is beyond ±(2^53 - 1)', 'n'],
    ['[1,[-9007199254740993]]', 'is beyond ±(2^53 - 1)', '[1][0]'],
    ['{"n":1e400}', 'is a number too large', 'n'],
    ['[[[[[[[[{}]]]]]]]]', 'is nested deeper than 8 levels', '[0][0][0][0][0][0][0][0]'],
    ['{"s":"\\ud83d"}', 'has half of a surrogate pair', 's'],
    ['{"\\uDE00":1}', 'has half of a surrogate pair', '\uDE00'],
  ])('%s', (text, reason, path) => {
    const found = fault(text);
    expect(found.reason).toBe(reason);
    expect(formatPath(found.path ?? [])).toBe(path);
    expect(found.value).toEqual(JSON.parse(text));
  });

  test.each([
    '',
    '{',
    '{"a":1,}',
    '[1 2]',
    "{'a':1}",
    'NaN',
    '01',
    '"\u0001"',
    '\uFEFF1',
    '1 1',
    '"a',
    '"a\\',
  ])('no JSON: %j', (text) => {
    expect(fault(text)).toMatchObject({ reason: 'not JSON', path: undefined });
  });

  test.each([[[0x22, 0xff, 0x22]], [[0x22, 0xc0, 0x80, 0x22]], [[0x22, 0xed, 0xa0, 0x80, 0x22]]])(
    'no UTF-8: %j',
    (bytes) => {
      expect(fault(Uint8Array.from(bytes)).reason).toBe('not UTF-8');
    },
  );

  test('a hundred thousand open brackets do not exhaust the stack', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(fault(deep).reason).toBe('is nested deeper than 8 levels');
    expect(fault('['.repeat(100_000)).reason).toBe('not JSON');
  });
});

test.each([
  ['[1,1,1,1]', 4],
  ['[[[[]]]]', 4],
  ['{"a":1,"b":{}}', 5],
  ['"a,b:{[,"', 0],
])('%s counts as %i values', (text, values) => {
  const parse = (valuesMax: number) => (): unknown =>
    parseJson(Buffer.from(text), { depthMax: 8, valuesMax });
  expect(parse(values)()).toEqual(JSON.parse(text));
  if (values > 0) expect(parse(values - 1)).toThrow(`more than ${values - 1} values`);
});

test('a long path is cut', () => {
  expect(formatPath(['a'.repeat(1000), 1])).toBe(`${'a'.repeat(256)}…`);
});
