import { TomlDate } from 'smol-toml';
import type { PolicyFault } from './fault.ts';
import { FieldInvalid } from './fault.ts';
import { nearestName } from './nearest-name.ts';
import type { TomlLines } from './toml-lines.ts';

/** Entries of any list in a policy: far more than an administrator writes, and few enough to walk for each request. */
export const listEntriesMax = 1024;

/** Characters of any string in a policy; an inline key is the longest. */
export const stringCharactersMax = 4096;

/** Where a table of the policy stands. */
export interface TablePlace {
  readonly file: string;
  /** Such as `rules[2]`. */
  readonly key: string;
  readonly lines: TomlLines;
}

/**
 * Takes the fields of one table one by one. What is missing, and what does not fit and has been reported, both read as
 * undefined; `sound` and `has` tell them apart.
 */
export class Fields {
  readonly place: TablePlace;
  /** Whether nothing has been reported of this table. */
  sound = true;
  readonly #table: Readonly<Record<string, unknown>>;
  readonly #report: (fault: PolicyFault) => void;
  readonly #known = new Set<string>();

  constructor(
    table: Readonly<Record<string, unknown>>,
    place: TablePlace,
    report: (fault: PolicyFault) => void,
  ) {
    this.#table = table;
    this.place = place;
    this.#report = report;
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
    return this.#take(name, (value) => parse(asText(value)));
  }

  /** A list of strings, each of which `parse` takes. An empty list is an error unless allowed. */
  list<Value>(
    name: string,
    parse: (text: string) => Value,
    empty: 'refused' | 'allowed' = 'refused',
  ): readonly Value[] | undefined {
    const entries = this.#take(name, (value) => asList(value, empty));
    const parsed = entries?.map((entry, index) => this.#fit(`${name}[${index}]`, () => parse(asText(entry))));
    const good = parsed?.filter((entry) => entry !== undefined);
    return good?.length === parsed?.length ? good : undefined;
  }

  boolean(name: string): boolean | undefined {
    return this.#take(name, (value) => {
      if (typeof value === 'boolean') return value;
      throw new FieldInvalid(`${describe(value)}, where true or false is wanted`);
    });
  }

  integer(name: string): number | undefined {
    return this.#take(name, (value) => {
      if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
      throw new FieldInvalid(`${describe(value)}, where a whole number is wanted`);
    });
  }

  /** A date and time with its offset from UTC. */
  time(name: string): Date | undefined {
    return this.#take(name, (value) => {
      if (value instanceof TomlDate && value.isDateTime() && !value.isLocal())
        return new Date(value.getTime());
      const hint = 'write a date, time and offset, without quotes: 2026-01-31T00:00:00Z';
      throw new FieldInvalid(`${describe(value)}, where a moment is wanted; ${hint}`);
    });
  }

  /** Reports every field that was not asked for. Called last. */
  finish(): void {
    for (const name of Object.keys(this.#table)) {
      if (this.#known.has(name)) continue;
      const nearest = nearestName(name, [...this.#known]);
      const shown = name.slice(0, 64);
      this.fault(shown, `unknown field${nearest === undefined ? '' : `; did you mean "${nearest}"?`}`);
    }
  }

  #take<Value>(name: string, convert: (value: unknown) => Value): Value | undefined {
    this.#known.add(name);
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

function asList(value: unknown, empty: 'refused' | 'allowed'): readonly unknown[] {
  if (!Array.isArray(value)) throw new FieldInvalid(`${describe(value)}, where a list of strings is wanted`);
  if (value.length === 0 && empty === 'refused') {
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
