import { TomlDate } from 'smol-toml';
import type { PolicyFault } from './fault.ts';
import { FieldInvalid } from './fault.ts';
import { nearestName } from './nearest-name.ts';
import type { FieldSchema, TableSchema } from './schema.ts';
import { listEntriesMax, stringCharactersMax } from './schema.ts';
import type { TomlLines } from './toml-lines.ts';

/** Where a table of the policy stands. */
export interface TablePlace {
  readonly file: string;
  /** Such as `rules[2]`. */
  readonly key: string;
  readonly lines: TomlLines;
}

/**
 * Takes the fields of one table one by one, as its schema describes them. What is missing, and what does not fit and has been reported, both read as
 * undefined; `sound` and `has` tell them apart.
 */
export class Fields {
  readonly place: TablePlace;
  /** Whether nothing has been reported of this table. */
  sound = true;
  readonly #table: Readonly<Record<string, unknown>>;
  readonly #report: (fault: PolicyFault) => void;
  readonly #schema: TableSchema;

  /** Reports every field that the schema does not know, and every one that it requires and is not there. */
  constructor(
    table: Readonly<Record<string, unknown>>,
    schema: TableSchema,
    place: TablePlace,
    report: (fault: PolicyFault) => void,
  ) {
    this.#table = table;
    this.#schema = schema;
    this.place = place;
    this.#report = report;
    this.#checkNames();
  }

  /** The line of the table's header. */
  get line(): number {
    return this.place.lines.lineOf(this.place.key);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#table, name);
  }

  /** Reports what is wrong with a field (such as `users[1]`), or with the table as a whole. */
  fault(name: string | undefined, reason: string): void {
    const { file, key: table, lines } = this.place;
    const key = name === undefined ? table : `${table}.${name}`;
    this.#report({ file, line: lines.lineOf(key), key, reason });
    this.sound = false;
  }

  /** A string that `parse` takes; it throws FieldInvalid where it does not. */
  string<Value>(name: string, parse: (text: string) => Value): Value | undefined {
    this.#expect(name, 'string');
    return this.#take(name, (value) => parse(asText(value)));
  }

  /** A list of strings, each of which `parse` takes. An empty list is an error unless the schema allows it. */
  list<Value>(name: string, parse: (text: string) => Value): readonly Value[] | undefined {
    const { empty } = this.#expect(name, 'list');
    const entries = this.#take(name, (value) => asList(value, empty));
    const parsed = entries?.map((entry, index) => this.#fit(`${name}[${index}]`, () => parse(asText(entry))));
    const good = parsed?.filter((entry) => entry !== undefined);
    return good?.length === parsed?.length ? good : undefined;
  }

  boolean(name: string): boolean | undefined {
    this.#expect(name, 'boolean');
    return this.#take(name, (value) => {
      if (typeof value === 'boolean') return value;
      throw new FieldInvalid(`${describe(value)}, where true or false is wanted`);
    });
  }

  /** A whole number within the schema's bounds. */
  integer(name: string): number | undefined {
    const { minimum, maximum } = this.#expect(name, 'integer');
    return this.#take(name, (value) => {
      if (typeof value !== 'number' || !Number.isSafeInteger(value))
        throw new FieldInvalid(`${describe(value)}, where a whole number is wanted`);
      if (value < minimum) throw new FieldInvalid(`${value} is below ${minimum}`);
      if (value > maximum) throw new FieldInvalid(`${value} is above ${maximum}`);
      return value;
    });
  }

  /** A date and time with its offset from UTC. */
  time(name: string): Date | undefined {
    this.#expect(name, 'time');
    return this.#take(name, (value) => {
      if (value instanceof TomlDate && value.isDateTime() && !value.isLocal())
        return new Date(value.getTime());
      const hint = 'write a date, time and offset, without quotes: 2026-01-31T00:00:00Z';
      throw new FieldInvalid(`${describe(value)}, where a moment is wanted; ${hint}`);
    });
  }

  #checkNames(): void {
    const { fields } = this.#schema;
    for (const name of Object.keys(this.#table)) {
      if (Object.hasOwn(fields, name)) continue;
      const nearest = nearestName(name, Object.keys(fields));
      const shown = name.slice(0, 64);
      this.fault(shown, `unknown field${nearest === undefined ? '' : `; did you mean "${nearest}"?`}`);
    }
    for (const [name, { required }] of Object.entries(fields)) {
      if (required === true && !this.has(name)) this.fault(name, 'missing');
    }
  }

  /** The field's description, which has to be of this kind: anything else is a slip in the parser. */
  #expect<Kind extends FieldSchema['kind']>(name: string, kind: Kind): Extract<FieldSchema, { kind: Kind }> {
    const field = this.#schema.fields[name];
    if (field?.kind !== kind) throw new RangeError(`the schema has no ${kind} ${name}`);
    return field as Extract<FieldSchema, { kind: Kind }>;
  }

  #take<Value>(name: string, convert: (value: unknown) => Value): Value | undefined {
    return this.has(name) ? this.#fit(name, () => convert(this.#table[name])) : undefined;
  }

  /** What `convert` returns, or undefined once the FieldInvalid that it throws is reported. */
  #fit<Value>(name: string, convert: () => Value): Value | undefined {
    try {
      return convert();
    } catch (error) {
      if (!(error instanceof FieldInvalid)) throw error;
      this.fault(name, error.message);
      return undefined;
    }
  }
}

function asText(value: unknown): string {
  if (typeof value !== 'string') throw new FieldInvalid(`${describe(value)}, where a string is wanted`);
  if (value.length > stringCharactersMax)
    throw new FieldInvalid(`longer than ${stringCharactersMax} characters`);
  return value;
}

function asList(value: unknown, empty: 'allowed' | undefined): readonly unknown[] {
  if (!Array.isArray(value)) throw new FieldInvalid(`${describe(value)}, where a list of strings is wanted`);
  if (value.length === 0 && empty !== 'allowed') {
    throw new FieldInvalid('an empty list; leave the field out or fill the list');
  }
  if (value.length > listEntriesMax)
    throw new FieldInvalid(`${value.length} entries are more than ${listEntriesMax}`);
  return value;
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value instanceof TomlDate) return `the date ${value.toISOString()}`;
  if (typeof value === 'string') return `the string ${JSON.stringify(value.slice(0, 64))}`;
  if (typeof value === 'number') return `the number ${value}`;
  return typeof value === 'boolean' ? String(value) : 'a table';
}
