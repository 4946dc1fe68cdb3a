import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../../../src/varlink/error.ts';
import { parseInterface } from '../../../src/varlink/idl.ts';
import type { JsonObject } from '../../../src/varlink/json.ts';
import { InvalidParameter, MethodNotFound } from '../../../src/varlink/service.ts';
import { fitsError, validateCall, validateReply } from '../../../src/varlink/validate.ts';

const description = parseInterface(`interface org.example.All
type Color (red, green)
type Point (x: int, y: ?int)
type Tree (value: int, children: ?[]Tree)
method M(
  b: ?bool,
  i: ?int,
  f: ?float,
  s: ?string,
  o: ?object,
  a: ?any,
  color: ?Color,
  point: ?Point,
  tree: ?Tree,
  ints: ?[]int,
  maybeInts: ?[]?int,
  map: ?[string]string,
  points: ?[string][]Point,
  inline: ?(k: (u, v))
) -> (n: int, point: ?Point, color: ?Color)
method Needs(first: int, second: string) -> ()
error E (n: int, s: ?string)
`);

const call = (parameters: JsonObject): JsonObject => validateCall(description, 'M', parameters);

/** JSON.parse makes own members of names that a literal would not. */
const json = (text: string): JsonObject => JSON.parse(text) as JsonObject;

describe('calls', () => {
  test.each([
    '{}',
    '{"b":false,"i":-9007199254740991,"f":0.5,"s":"","o":{"any":[null]},"a":[null,1]}',
    '{"i":1.0,"f":3}',
    '{"color":"red","point":{"x":0},"tree":{"value":1,"children":[{"value":2,"children":[]}]}}',
    '{"ints":[],"maybeInts":[1,null],"map":{"":"a","__proto__":"b"},"points":{"p":[{"x":1,"y":2}]}}',
    '{"inline":{"k":"v"},"o":{"__proto__":{"x":1}}}',
  ])('taken as they are: %s', (text) => {
    const parameters = json(text);
    expect(call(parameters)).toBe(parameters);
  });

  test('null for what is optional is left out, at every level', () => {
    const parameters = json(
      '{"b":null,"s":"x","point":{"x":1,"y":null},"points":{"__proto__":[{"x":1,"y":null}],"q":[]},"tree":null}',
    );
    const before = JSON.stringify(parameters);
    const found = call(parameters);
    expect(JSON.stringify(found)).toBe('{"s":"x","point":{"x":1},"points":{"__proto__":[{"x":1}],"q":[]}}');
    expect(JSON.stringify(parameters)).toBe(before);
  });

  test.each([
    ['{"b":1}', 'b', 'is not true or false but a number'],
    ['{"i":"1"}', 'i', 'is not a whole number but a string'],
    ['{"i":1.5}', 'i', 'is not a whole number'],
    ['{"i":9007199254740992}', 'i', 'is beyond ±(2^53 - 1)'],
    ['{"i":1e300}', 'i', 'is beyond ±(2^53 - 1)'],
    ['{"f":true}', 'f', 'is not a number but true'],
    ['{"s":{}}', 's', 'is not a string but an object'],
    ['{"o":[]}', 'o', 'is not an object but an array'],
    ['{"color":"blue"}', 'color', 'is not one of red, green'],
    ['{"color":1}', 'color', 'is not a string but a number'],
    ['{"point":{}}', 'point.x', 'is missing'],
    ['{"point":{"x":null}}', 'point.x', 'is not a whole number but null'],
    ['{"point":{"x":1,"z":1}}', 'point.z', 'is not known here'],
    ['{"point":{"x":1,"__proto__":{}}}', 'point.__proto__', 'is not known here'],
    [
      '{"tree":{"value":1,"children":[{"value":2},{"value":"x"}]}}',
      'tree.children[1].value',
      'is not a whole number but a string',
    ],
    ['{"ints":[0,null]}', 'ints[1]', 'is not a whole number but null'],
    ['{"ints":{"0":1}}', 'ints', 'is not an array but an object'],
    ['{"map":{"k":null}}', 'map.k', 'is not a string but null'],
    ['{"map":{"a b":1}}', 'map["a b"]', 'is not a string but a number'],
    ['{"map":[]}', 'map', 'is not an object but an array'],
    ['{"points":{"__proto__":[{"x":"1"}]}}', 'points.__proto__[0].x', 'is not a whole number but a string'],
    ['{"inline":{"k":"w"}}', 'inline.k', 'is not one of u, v'],
    ['{"unknown":null}', 'unknown', 'is not known here'],
    ['{"__proto__":{"i":1}}', '__proto__', 'is not known here'],
    ['{"constructor":1}', 'constructor', 'is not known here'],
    ['{"toString":null}', 'toString', 'is not known here'],
  ])('refused: %s', (text, parameter, reason) => {
    let thrown: unknown;
    try {
      call(json(text));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidParameter);
    expect(thrown).toMatchObject({ parameters: { parameter, reason } });
  });

  test('the first parameter that is missing is named', () => {
    expect(() => validateCall(description, 'Needs', { second: '' })).toThrow(
      new InvalidParameter('first', 'is missing'),
    );
    expect(() => validateCall(description, 'Needs', { first: 1 })).toThrow(
      new InvalidParameter('second', 'is missing'),
    );
  });

  test('a method that is not there', () => {
    expect(() => validateCall(description, 'toString', {})).toThrow(MethodNotFound);
  });
});

describe('replies', () => {
  test('what is not known is kept', () => {
    const reply = { n: 1, later: [null], point: { x: 1, z: { deep: null } } };
    expect(validateReply(description, 'M', reply)).toBe(reply);
  });

  test.each(['{}', '{"n":"1"}', '{"n":null}', '{"n":1,"point":{"y":1}}', '{"n":1,"color":"blue"}'])(
    'refused: %s',
    (text) => {
      expect(() => validateReply(description, 'M', json(text))).toThrow(ProtocolError);
    },
  );

  test('a method that is not there', () => {
    expect(() => validateReply(description, 'N', {})).toThrow(MethodNotFound);
  });

  test('errors', () => {
    expect(fitsError(description, 'E', { n: 1, more: true })).toBe(true);
    expect(fitsError(description, 'E', { n: '1' })).toBe(false);
    expect(fitsError(description, 'E', {})).toBe(false);
  });
});
