import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatInterface } from '../../../src/varlink/idl-format.ts';
import { IdlError } from '../../../src/varlink/idl-tokens.ts';
import { parseInterface } from '../../../src/varlink/idl.ts';
import { serviceText } from '../../../src/varlink/service.ts';

const own = readFileSync(
  resolve(import.meta.dirname, '../../../src/api/io.cfsmountd.MountDelegation.varlink'),
  'utf8',
);

const everything = `# About it.
#
#  Indented.
interface org.example-1.more.A1

type Empty ()
type Color (red, green, blue)
type Lines (
  a_b: ?int,
  # Before c.
  c: []?[string][]Color,
  d: (x: (y: float, z: (u, v)), w: any),
  e: (
    object: object,
    # The last.
    bool: bool
  )
  # At the end.
)

# A method.
method Call(s: string) -> (
  # One.
  n: int
)
method Nothing() -> ()
error E ()
# Behind all.
`;

describe('format after parse gives the same bytes', () => {
  test.each([
    ['the interface of this project', own],
    ['org.varlink.service', serviceText],
    ['everything that the language has', everything],
  ])('%s', (_name, text) => {
    expect(formatInterface(parseInterface(text))).toBe(text);
  });

  test('an untidy text is made tidy, once', () => {
    const untidy =
      'interface a.b\r\ntype  T(a:int,\n\tb : ?[ ]string)# of T\n\n\n\nmethod M( )->(x:\nint)\nerror E(a:int, # of b\nb:int)';
    const tidy = formatInterface(parseInterface(untidy));
    expect(tidy).toBe(
      [
        'interface a.b',
        'type T (a: int, b: ?[]string)',
        '# of T',
        'method M() -> (x: int)',
        'error E (',
        '  a: int,',
        '  # of b',
        '  b: int',
        ')',
        '',
      ].join('\n'),
    );
    expect(formatInterface(parseInterface(tidy))).toBe(tidy);
  });
});

test('what is parsed', () => {
  const { name, comments, members, commentsAtEnd } = parseInterface(everything);
  expect({ name, comments, commentsAtEnd }).toEqual({
    name: 'org.example-1.more.A1',
    comments: [' About it.', '', '  Indented.'],
    commentsAtEnd: [' Behind all.'],
  });
  expect(members.map(({ kind, name, apart }) => [kind, name, apart])).toEqual([
    ['type', 'Empty', true],
    ['type', 'Color', false],
    ['type', 'Lines', false],
    ['method', 'Call', true],
    ['method', 'Nothing', false],
    ['error', 'E', false],
  ]);
  expect(members[1]).toMatchObject({ type: { kind: 'enumeration', values: [{ name: 'red' }, {}, {}] } });
  expect(members[2]).toMatchObject({
    type: {
      kind: 'struct',
      fields: [
        { name: 'a_b', type: { kind: 'nullable', of: { kind: 'int' } }, comments: [] },
        {
          name: 'c',
          type: { kind: 'array', of: { kind: 'nullable', of: { kind: 'map', of: { kind: 'array' } } } },
          comments: [' Before c.'],
        },
        { name: 'd' },
        { name: 'e' },
      ],
      layout: { lines: true, commentsAtEnd: [' At the end.'] },
    },
  });
});

describe('types that use types', () => {
  test('may use themselves where a value can end', () => {
    const text = 'interface a.b\ntype T (a: ?T, b: []U, c: [string]T)\ntype U (t: T)\n';
    expect(parseInterface(text).members).toHaveLength(2);
  });

  test.each([
    'type T (t: T)',
    'type T (u: U)\ntype U (v: (t: T))',
    'type A (b: B)\ntype B (c: C)\ntype C (b: B)',
  ])('hold themselves: %j', (text) => {
    expect(() => parseInterface(`interface a.b\n${text}\n`)).toThrow(/holds itself/);
  });
});

test.each([
  ['', 1, 1, 'expected interface'],
  ['interface', 1, 10, 'the text ends too early'],
  ['interface a', 1, 11, 'expected the name of an interface'],
  ['interface a..b', 1, 11, 'expected the name of an interface'],
  ['interface 1.b', 1, 11, 'expected the name of an interface'],
  ['interface a.b-', 1, 14, 'a character that is not of the language'],
  ['interface a.b\ntype t (a: int)', 2, 6, 'expected the name of the type'],
  ['interface a.b\n\ntype T (a: ??int)', 3, 13, 'a second ?'],
  ['interface a.b\ntype T (a: int, a: int)', 2, 17, 'a is given twice'],
  ['interface a.b\ntype T (a, a)', 2, 12, 'a is given twice'],
  ['interface a.b\ntype T (a: int, b)', 2, 17, 'some names have a type'],
  ['interface a.b\ntype T (a, b: int)', 2, 12, 'some names have a type'],
  ['interface a.b\ntype T (a: int,)', 2, 16, 'a comma after the last name'],
  ['interface a.b\ntype T (_a: int)', 2, 9, 'expected a name'],
  ['interface a.b\ntype T (a__b: int)', 2, 9, 'expected a name'],
  ['interface a.b\ntype T (a: [int]string)', 2, 13, 'expected ] or string'],
  ['interface a.b\ntype T (a: integer)', 2, 12, 'expected a type'],
  ['interface a.b\ntype T (a: U)', 2, 14, 'T uses the type U, which is not defined'],
  ['interface a.b\ntype T (a: int)\nerror T ()', 3, 1, 'T is defined twice'],
  ['interface a.b\nmethod M()', 2, 11, 'expected ->'],
  ['interface a.b\nmethod M() -> (x, y)', 2, 15, 'expected fields, each with a type'],
  ['interface a.b\nthing M()', 2, 1, 'expected type, method or error'],
  ['interface a.b\nerror A () error B ()', 2, 12, 'error does not begin a line'],
  ['interface a.b\ntype T (a; int)', 2, 10, 'a character that is not of the language'],
  ['interface a.b\ntype T (a: int', 2, 15, 'expected )'],
  [`interface a.b\ntype T (a: ${'[]'.repeat(1000)}int)`, 2, 76, 'types nest deeper than 32'],
])('%j is refused', (text, line, column, reason) => {
  let thrown: unknown;
  try {
    parseInterface(text);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(IdlError);
  expect(thrown).toMatchObject({ line, column });
  expect((thrown as IdlError).reason).toContain(reason);
});
