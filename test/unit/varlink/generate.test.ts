import { describe, expect, test } from 'vitest';
import { generate } from '../../../src/varlink/generate.ts';
import { IdlError } from '../../../src/varlink/idl-tokens.ts';

const options = { source: 'x.varlink', library: 'lib' };

const text = `# With \\ and \` and \${it} and */.
interface org.example.some-thing
type Color (red, green)
type All (
  # A color.
  color: ?Color,
  list: []?Color,
  inline: [](a, b),
  map: [string][]int,
  any: any,
  object: object,
  inner: (f: float, b: ?bool)
)
method Get() -> (all: All)
method Set(all: All) -> ()
error Bad ()
error Worse (how: ?string)
`;

describe('generate', () => {
  const lines = generate(text, options).split('\n');

  test.each([
    '// Generated from x.varlink by varlink-generate: change that file and generate this one anew.',
    "import { VarlinkError } from 'lib/error.ts';",
    '/** With \\ and ` and ${it} and * /. */',
    'export const something: Interface = parseInterface(somethingText);',
    "export type Color = 'red' | 'green';",
    '  /** A color. */',
    '  readonly color?: Color;',
    '  readonly list: readonly (Color | null)[];',
    "  readonly inline: readonly ('a' | 'b')[];",
    '  readonly map: Readonly<Record<string, readonly number[]>>;',
    '  readonly any: JsonObject[string];',
    '  readonly object: JsonObject;',
    '    readonly b?: boolean;',
    'export type GetParameters = Readonly<Record<string, never>>;',
    '  readonly Set: TypedHandler<Context, SetParameters, SetReply>;',
    'export class Bad extends VarlinkError {',
    "    super('org.example.some-thing.Worse', parameters);",
    'export class SomethingClient {',
    '  async get(): Promise<Answer<GetReply>> {',
    '  async set(parameters: SetParameters, fds: readonly number[] = []): Promise<Answer<SetReply>> {',
  ])('%s', (line) => {
    expect(lines).toContain(line);
  });

  test('the description is there as it was', () => {
    const source = generate(text, options);
    const literal = /Text = `((?:[^`\\]|\\.)*)`;/s.exec(source)?.[1] ?? '';
    expect(literal.replaceAll(/\\([\\`$])/g, '$1')).toBe(text);
  });

  test('what it does not need is not imported', () => {
    const small = generate('interface a.b\nmethod M() -> ()\n', options);
    expect(small).toContain("import type { VarlinkError } from 'lib/error.ts';");
  });

  test('two things of one name are refused', () => {
    expect(() => generate('interface a.b\ntype MReply ()\nmethod M() -> ()\n', options)).toThrow(
      'called MReply',
    );
    expect(() => generate('interface a.b\ntype Client ()\n', options)).toThrow('called Client');
  });

  test('what is no description is refused', () => {
    expect(() => generate('interface', options)).toThrow(IdlError);
  });
});
