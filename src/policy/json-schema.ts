import type { FieldSchema, TableSchema } from './schema.ts';
import { listEntriesMax, stringCharactersMax, tableNames, tableSchemas } from './schema.ts';

type Json = Readonly<Record<string, unknown>>;

/**
 * The JSON Schema (2020-12) of a policy file, for editors: names, kinds and simple values of fields, which fields go
 * together, and what each means. What a file says of others, or of this machine, only `policy check` can tell.
 */
export function policyJsonSchema(): Json {
  const tables = tableNames.map((name): [string, Json] => {
    const schema = tableSchemas[name];
    const table = tableJson(schema);
    if (schema.kind === 'single') return [name, { description: schema.about, ...table }];
    return [name, { description: schema.about, type: 'array', maxItems: listEntriesMax, items: table }];
  });
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Policy of cfs-mountd',
    type: 'object',
    properties: Object.fromEntries(tables),
    additionalProperties: false,
  };
}

function tableJson({ fields, exactlyOne, excludes, grounds }: TableSchema): Json {
  const required = Object.entries(fields).flatMap(([name, field]) => (field.required === true ? [name] : []));
  return {
    type: 'object',
    properties: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, fieldJson(field)])),
    required,
    additionalProperties: false,
    ...(exactlyOne && { oneOf: exactlyOne.map((name) => ({ required: [name] })) }),
    ...(excludes && { dependentSchemas: excludesJson(excludes) }),
    ...(grounds && groundsJson(grounds)),
  };
}

function excludesJson(excludes: NonNullable<TableSchema['excludes']>): Json {
  return Object.fromEntries(
    Object.entries(excludes).map(([field, others]) => [
      field,
      { not: { anyOf: others.map((name) => ({ required: [name] })) } },
    ]),
  );
}

function groundsJson({ some, alone }: NonNullable<TableSchema['grounds']>): Json {
  const isAlone = { properties: { [alone]: { const: true } }, required: [alone] };
  const given = { anyOf: some.map((name) => ({ required: [name] })) };
  return { if: isAlone, then: { not: given }, else: given };
}

function fieldJson(field: FieldSchema): Json {
  const rest = { description: field.about, ...(field.default !== undefined && { default: field.default }) };
  switch (field.kind) {
    case 'string':
      return { ...rest, ...textJson(field) };
    case 'list': {
      const minItems = field.empty === 'allowed' ? 0 : 1;
      return { ...rest, type: 'array', minItems, maxItems: listEntriesMax, items: textJson(field) };
    }
    case 'boolean':
      return { ...rest, type: 'boolean' };
    case 'integer':
      return { ...rest, type: 'integer', minimum: field.minimum, maximum: field.maximum };
    case 'time':
      // JSON has no times: editors show TOML's as strings. RFC 3339, with an offset.
      return {
        ...rest,
        type: 'string',
        pattern: '^\\d{4}-\\d\\d-\\d\\d[Tt ]\\d\\d:\\d\\d(:\\d\\d(\\.\\d+)?)?([Zz]|[+-]\\d\\d:\\d\\d)$',
      };
  }
}

function textJson(field: { readonly choices?: readonly string[]; readonly pattern?: string }): Json {
  if (field.choices !== undefined) return { enum: field.choices };
  return {
    type: 'string',
    maxLength: stringCharactersMax,
    ...(field.pattern !== undefined && { pattern: field.pattern }),
  };
}

/** The bytes of policy/policy.schema.json. */
export function formatPolicyJsonSchema(): string {
  return `${JSON.stringify(policyJsonSchema(), undefined, 2)}\n`;
}
