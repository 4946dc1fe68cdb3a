import { parseInterface } from './idl.ts';
import type { Enumeration, ErrorMember, Interface, MethodMember, Struct, Type } from './interface.ts';

/** What of the generated text the description does not say. */
export interface GenerateOptions {
  /** The file that the description was read from, for the first line. */
  readonly source: string;
  /** Where the folder of this library is, as an import from the generated file says it. */
  readonly library: string;
}

/** As wide as the project's formatter lets lines be. */
const widthMax = 110;

/** Names that every generated file has already. */
const taken = [
  'Answer',
  'Client',
  'Interface',
  'JsonObject',
  'MethodAnswer',
  'TypedHandler',
  'VarlinkError',
  'callMethod',
  'parseInterface',
  'Promise',
  'Readonly',
  'Record',
];

/**
 * The TypeScript of an interface: its description, a type for each of its types and for what its methods take and
 * answer, a class for each error, the type of its handlers, and a client. Formatted as prettier would. Throws IdlError
 * where `text` is no description, and TypeError where two things would have one name.
 */
export function generate(text: string, options: GenerateOptions): string {
  const description = parseInterface(text);
  const last = description.name.slice(description.name.lastIndexOf('.') + 1);
  const name = last.charAt(0).toUpperCase() + last.slice(1).replaceAll('-', '');
  const names: Names = { type: name, value: name.charAt(0).toLowerCase() + name.slice(1) };
  checkNames(description, names);
  const methods = description.members.filter((member) => member.kind === 'method');
  const errors = description.members.filter((member) => member.kind === 'error');
  const parts = [
    head(options, errors.length > 0),
    describe(description, text, names),
    ...description.members.flatMap((member) => {
      if (member.kind === 'type') return [typeAlias(member.name, member.comments, member.type)];
      return member.kind === 'method' ? methodTypes(member) : [];
    }),
    handlers(description, methods, names),
    ...errors.map((error) => errorClass(description, error)),
    errorTable(description, errors),
    client(description, methods, names),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** What the interface is called in TypeScript: in types and classes, and in values. */
interface Names {
  readonly type: string;
  readonly value: string;
}

function checkNames(description: Interface, names: Names): void {
  const seen = new Set([
    ...taken,
    `${names.type}Methods`,
    `${names.type}Client`,
    names.value,
    `${names.value}Text`,
  ]);
  const all = description.members.flatMap(({ kind, name }) => {
    if (kind === 'method') return [`${name}Parameters`, `${name}Reply`];
    return kind === 'error' ? [name, `${name}Parameters`] : [name];
  });
  for (const name of all) {
    if (seen.has(name)) throw new TypeError(`two things would be called ${name}`);
    seen.add(name);
  }
}

function head({ source, library }: GenerateOptions, hasErrors: boolean): string {
  return [
    `// Generated from ${source} by varlink-generate: change that file and generate this one anew.`,
    '',
    `import type { Answer, Client } from '${library}/client.ts';`,
    `import ${hasErrors ? '' : 'type '}{ VarlinkError } from '${library}/error.ts';`,
    `import { parseInterface } from '${library}/idl.ts';`,
    `import type { Interface } from '${library}/interface.ts';`,
    `import type { JsonObject } from '${library}/json.ts';`,
    `import type { TypedHandler } from '${library}/server.ts';`,
    `import { callMethod } from '${library}/typed-call.ts';`,
  ].join('\n');
}

function describe(description: Interface, text: string, { value }: Names): string {
  const escaped = text.replaceAll(/[\\`]|\$\{/g, '\\$&');
  return [
    `/** The description of ${description.name}, as services tell it. */`,
    `export const ${value}Text = \`${escaped}\`;`,
    '',
    ...docs(description.comments, ''),
    `export const ${value}: Interface = parseInterface(${value}Text);`,
  ].join('\n');
}

function typeAlias(name: string, comments: readonly string[], type: Struct | Enumeration): string {
  return [
    ...docs(comments, ''),
    `export type ${name} = ${typeText(type, '', `export type ${name} = `)};`,
  ].join('\n');
}

function methodTypes(method: MethodMember): string[] {
  return [
    typeAlias(`${method.name}Parameters`, [` What ${method.name} takes.`], method.input),
    typeAlias(`${method.name}Reply`, [` What ${method.name} answers.`], method.output),
  ];
}

function handlers(description: Interface, methods: readonly MethodMember[], { type }: Names): string {
  const lines = methods.map(({ name, comments }) =>
    [
      ...docs(comments, '  '),
      `  readonly ${name}: TypedHandler<Context, ${name}Parameters, ${name}Reply>;`,
    ].join('\n'),
  );
  return [
    `/** What a service of ${description.name} answers its methods with. */`,
    `export type ${type}Methods<Context> = {`,
    ...lines,
    '};',
  ].join('\n');
}

function errorClass(description: Interface, { name, comments, parameters }: ErrorMember): string {
  const wholeName = `${description.name}.${name}`;
  const none = parameters.fields.length === 0;
  const begin = [
    ...docs(comments.length > 0 ? comments : [` The error ${wholeName}.`], ''),
    `export class ${name} extends VarlinkError {`,
  ];
  if (none) return [...begin, '  constructor() {', `    super('${wholeName}', {});`, '  }', '}'].join('\n');
  return [
    `type ${name}Parameters = ${typeText(parameters, '')};`,
    '',
    ...begin,
    `  override readonly parameters: ${name}Parameters;`,
    '',
    `  constructor(parameters: ${name}Parameters) {`,
    `    super('${wholeName}', parameters);`,
    '    this.parameters = parameters;',
    '  }',
    '}',
  ].join('\n');
}

function errorTable(description: Interface, errors: readonly ErrorMember[]): string {
  const lines = errors.map(({ name, parameters }) =>
    parameters.fields.length === 0
      ? `  ${name}: () => new ${name}(),`
      : fit(
          `  ${name}: (parameters) => new ${name}(parameters as ${name}Parameters),`,
          `  ${name}: (parameters) =>\n    new ${name}(parameters as ${name}Parameters),`,
        ),
  );
  return [
    `// Makes the errors of ${description.name} from parameters that fit its description.`,
    lines.length === 0
      ? 'const errors: Readonly<Record<string, (parameters: JsonObject) => VarlinkError>> = {};'
      : `const errors: Readonly<Record<string, (parameters: JsonObject) => VarlinkError>> = {\n${lines.join('\n')}\n};`,
  ].join('\n');
}

function client(description: Interface, methods: readonly MethodMember[], { type, value }: Names): string {
  const calls = methods.map((method) => clientMethod(method, value));
  return [
    `/**`,
    ` * Calls the methods of ${description.name}. They reject with the classes of its errors, VarlinkError for`,
    ` * errors that this version does not know, and as Client's \`call\` otherwise. Descriptors in \`fds\` stay the caller's.`,
    ` */`,
    `export class ${type}Client {`,
    '  readonly #client: Client;',
    '',
    '  constructor(client: Client) {',
    '    this.#client = client;',
    '  }',
    ...calls.map((call) => `\n${call}`),
    '}',
  ].join('\n');
}

function clientMethod({ name, comments, input }: MethodMember, value: string): string {
  const called = name.charAt(0).toLowerCase() + name.slice(1);
  const none = input.fields.length === 0;
  const parameters = none ? [] : [`parameters: ${name}Parameters`, 'fds: readonly number[] = []'];
  const returned = `Promise<Answer<${name}Reply>>`;
  const call = `callMethod(this.#client, ${value}, '${name}', ${none ? '{}, []' : 'parameters, fds'}, errors)`;
  return [
    ...docs(comments, '  '),
    fit(
      `  async ${called}(${parameters.join(', ')}): ${returned} {`,
      `  async ${called}(\n${parameters.map((line) => `    ${line},\n`).join('')}  ): ${returned} {`,
    ),
    `    const answer = await ${call};`,
    `    return answer as Answer<${name}Reply>;`,
    '  }',
  ].join('\n');
}

/** A type; `before` is what is before it on its line, and `indent` how far that line is indented. */
function typeText(type: Type, indent: string, before = ''): string {
  switch (type.kind) {
    case 'bool':
      return 'boolean';
    case 'int':
    case 'float':
      return 'number';
    case 'string':
      return 'string';
    case 'object':
      return 'JsonObject';
    case 'any':
      return 'JsonObject[string]';
    case 'reference':
      return type.name;
    case 'nullable':
      return `${elementText(type.of, indent)} | null`;
    case 'array':
      return `readonly ${elementText(type.of, indent)}[]`;
    case 'map':
      return `Readonly<Record<string, ${typeText(type.of, indent)}>>`;
    case 'struct':
      return structText(type, indent);
    case 'enumeration': {
      const values = type.values.map(({ name }) => `'${name}'`);
      const line = values.join(' | ');
      return before.length + line.length + 1 <= widthMax
        ? line
        : values.map((value) => `\n${indent}  | ${value}`).join('');
    }
  }
}

/** A type before `[]` or beside `|`. */
function elementText(type: Type, indent: string): string {
  const text = typeText(type, indent);
  return type.kind === 'nullable' || type.kind === 'array' || type.kind === 'enumeration'
    ? `(${text})`
    : text;
}

function structText(struct: Struct, indent: string): string {
  if (struct.fields.length === 0) return 'Readonly<Record<string, never>>';
  const inner = `${indent}  `;
  const lines = struct.fields.flatMap(({ name, type, comments }) => {
    const optional = type.kind === 'nullable';
    const before = `${inner}readonly ${name}${optional ? '?' : ''}: `;
    return [...docs(comments, inner), `${before}${typeText(optional ? type.of : type, inner, before)};`];
  });
  return `{\n${lines.join('\n')}\n${indent}}`;
}

function docs(comments: readonly string[], indent: string): string[] {
  const lines = comments.map((comment) => comment.replace(/^ /, '').replaceAll('*/', '* /').trimEnd());
  if (lines.length === 0) return [];
  if (lines.length === 1) return [`${indent}/** ${lines[0] ?? ''} */`];
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}

function fit(line: string, broken: string): string {
  return line.length <= widthMax ? line : broken;
}
