import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse as parseToml, stringify, TomlDate } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import { formatPolicyJsonSchema, policyJsonSchema } from '../../../src/policy/json-schema.ts';
import { tableNames, tableSchemas } from '../../../src/policy/schema.ts';
import { Random } from '../../support/random.ts';
import { faultsOf, makeKey, policyOf } from './policy-of.ts';

type Table = Record<string, unknown>;
type Document = Record<string, Table[]>;

const folder = resolve(import.meta.dirname, '../../../policy');
const accepts = new Ajv2020({ allErrors: true }).compile(policyJsonSchema());
const zeros = `sha256:${'0'.repeat(64)}`;

/** A TOML document as an editor's JSON view has it: moments as strings. */
function plain(value: unknown): unknown {
  if (value instanceof TomlDate) return value.toISOString();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

/** Every field of every table, each with a value that fits. */
const whole = `
${makeKey('one', 'not-before = 2026-01-01T00:00:00Z\nnot-after = 2027-01-01T00:00:00+02:00\nnames = ["a/**"]').toml}
[[keys]]
id = "two"
file = "two.pub"
authority = false
[[keys]]
id = "ring"
keyring = ".fs-verity"
[[revoked]]
key = "${'0'.repeat(64)}"
[[revoked]]
digest = "${zeros}"
[[stores]]
name = "s"
path = "/s"
verity = "require"
[[image-directories]]
path = "/images"
[[rules]]
name = "signed"
users = ["*"]
groups = ["0"]
images = ["a/*"]
signed-by = ["one", "two"]
threshold = 2
formats = ["dsse"]
file-systems = ["composefs"]
stores = ["s"]
client-stores = true
add-objects = ["s"]
add-bytes-per-hour = 1000000
verity = "if-present"
attributes = ["ro"]
devices = false
share = "everyone"
rollback-protection = true
unscanned = false
[[rules]]
name = "pinned"
digests = ["${zeros}"]
locations = ["/images"]
[[rules]]
name = "unsigned"
unsigned = true
`;
const keyFiles = { 'two.pub': makeKey('two').toml.replace(/^[^]*public-key = "(.*)"[^]*$/, '$1') };

test('the file is what the description generates: npm run generate', () => {
  expect(readFileSync(join(folder, 'policy.schema.json'), 'utf8')).toBe(formatPolicyJsonSchema());
});

test.each(['default', ...readdirSync(join(folder, 'examples')).map((name) => join('examples', name))])(
  'it accepts the policy in %s',
  (name) => {
    const files = join(folder, name, 'policy.d');
    for (const file of readdirSync(files))
      expect(accepts(plain(parseToml(readFileSync(join(files, file), 'utf8')))), file).toBe(true);
  },
);

test('the document of this test uses every field', () => {
  const document = parseToml(whole) as unknown as Document;
  for (const table of tableNames.filter((name) => tableSchemas[name].kind === 'list')) {
    const used = new Set(document[table]?.flatMap((entry) => Object.keys(entry)));
    expect([...used].sort()).toEqual(Object.keys(tableSchemas[table].fields).sort());
  }
});

test('its defaults are those that the parser fills in', () => {
  const [rule] = policyOf('[[rules]]\nname = "r"\nunsigned = true').rules;
  const filled: Record<string, unknown> = { ...rule, unsigned: false };
  for (const [name, field] of Object.entries(tableSchemas.rules.fields)) {
    const property = name.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
    if (field.default !== undefined) expect(filled[property], name).toEqual(field.default);
  }
});

/** Values of every kind, most of which do not fit where they are put. */
const values: readonly [unknown, ...unknown[]] = [
  '',
  ...['x', 'require', 'composefs', '/a', zeros, '..', 'a\u0007', 'y'.repeat(5000)],
  ...[0, 1, -1, 1.5, 1025, true, false, [], ['x'], ['ro', 'ro'], [1], [[]], [''], ['/a'], [zeros], {}],
  new TomlDate('2026-01-01T00:00:00Z'),
  new TomlDate('2026-01-01'),
  new TomlDate('2026-01-01T00:00:00'),
  Array.from({ length: 1025 }, () => 'ro'),
];

/** What only the parser can know: of this machine, of other tables, and what strings mean that have a syntax of their own. */
const beyondFields =
  /no (user|group|key|store) "|pattern of names|stars in a row|no usable key|no such file|distinct keys|before not-before|name of another|ID of another|plain form|takes \d+; name just one|states no name|attributes has no nodev|has no add-objects|only a certificate can be/;

describe('what is wrong with one field', () => {
  test('is wrong to the parser and to the schema, or to neither', () => {
    const random = new Random(31);
    const seen = { taken: 0, refused: 0 };
    for (let round = 0; round < 800; round++) {
      const document = parseToml(whole) as unknown as Document;
      const name = random.pick(['keys', 'revoked', 'stores', 'image-directories', 'rules'] as const);
      const entries = document[name] ?? [];
      const entry = entries[random.below(entries.length)] ?? {};
      const fields = Object.keys(tableSchemas[name].fields);
      const field = fields[random.below(fields.length)] ?? '';
      const change = random.below(4);
      if (change === 0) Reflect.deleteProperty(entry, field);
      else if (change === 1) entry[`${field}x`] = random.pick(values);
      else entry[field] = random.pick(values);
      const where = `seed ${random.seed}, round ${round}: ${name}.${field} ${JSON.stringify(plain(entry)).slice(0, 300)}`;
      const faults = faultsOf(stringify(document), keyFiles);
      if (faults.some((fault) => beyondFields.test(fault))) continue;
      // As JSON, a moment in a string's place is a string.
      if (faults.some((fault) => fault.includes('the date ') && fault.includes('where a string'))) continue;
      const taken = accepts(plain(document));
      expect(taken, `${where}: ${faults.join('; ')}`).toBe(faults.length === 0);
      seen[taken ? 'taken' : 'refused']++;
    }
    expect(Math.min(seen.taken, seen.refused)).toBeGreaterThan(30);
  });
});
