import { createHash } from 'node:crypto';
import { parse as parseToml, TomlError } from 'smol-toml';
import type { Accounts } from './accounts.ts';
import type { PolicyFault } from './fault.ts';
import { PolicyInvalid, sortFaults } from './fault.ts';
import { Fields } from './fields.ts';
import { nearestName } from './nearest-name.ts';
import { parseKeyrings, separateKeyrings } from './parse-keyrings.ts';
import { checkRuleNames, parseRule } from './parse-rule.ts';
import {
  Names,
  parseClock,
  parseImageDirectories,
  parseKeys,
  parseRevoked,
  parseStores,
} from './parse-tables.ts';
import type { Policy, Rule } from './policy.ts';
import type { TableName } from './schema.ts';
import { listEntriesMax, tableNames, tableSchemas } from './schema.ts';
import { indexTomlLines } from './toml-lines.ts';

/** A policy file, as read. */
export interface PolicyFile {
  /** For faults, and to find the key files beside it. */
  readonly path: string;
  readonly text: string;
}

/** What a policy refers to beyond its own files. */
export interface PolicyContext {
  readonly accounts: Accounts;
  /** False where a file of the policy could not be read: names that are not defined may then be defined there. */
  readonly complete: boolean;
  /** The file of that plain name in the keys.d that goes with the policy file. Throws FieldInvalid. */
  readKey(policyFile: string, name: string): { readonly path: string; readonly text: string };
  /** Throws FieldInvalid where others than root can change what lies in an image directory or a trusted store. */
  checkDirectory(path: string): void;
  /** The path with its links resolved, as far as it exists. */
  realPath(path: string): string;
}

/** One policy file. A rule takes about 1 KiB. */
export const policyFileBytesMax = 1_048_576;

/** Policy files in all. */
export const policyFilesMax = 256;

/**
 * The policy that the files lay down together, in their order. Throws PolicyInvalid with all that is wrong with them,
 * sorted by file and line.
 */
export function parsePolicy(files: readonly PolicyFile[], context: PolicyContext): Policy {
  const faults: PolicyFault[] = [];
  const report = (fault: PolicyFault): void => void faults.push(fault);
  const digest = createHash('sha256');
  const tables = new Tables();
  for (const file of files) {
    addBytes(digest, file);
    readTables(file, tables, report);
  }
  const readKey: PolicyContext['readKey'] = (policyFile, name) => {
    const file = context.readKey(policyFile, name);
    addBytes(digest, file);
    return file;
  };

  const checkDirectory = (path: string): void => {
    context.checkDirectory(path);
  };

  const realPath = (path: string): string => context.realPath(path);

  const keyNames = new Names();
  const storeNames = new Names();
  keyNames.complete = storeNames.complete = tables.complete && context.complete;
  const clockSkew = parseClock(tables.of('clock')) * 1000;
  const [ofKeyrings, ofKeys] = separateKeyrings(tables.of('keys'));
  const keys = parseKeys(ofKeys, keyNames, readKey);
  const keyrings = parseKeyrings(ofKeyrings, keyNames, keys);
  const revoked = parseRevoked(tables.of('revoked'));
  const stores = parseStores(tables.of('stores'), storeNames, checkDirectory);
  const imageDirectories = parseImageDirectories(tables.of('image-directories'), checkDirectory);
  const rules: { name: string; rule: Rule; fields: Fields }[] = [];
  for (const fields of tables.of('rules')) {
    const rule = parseRule(fields, {
      accounts: context.accounts,
      realPath,
      keys,
      keyrings,
      keyNames,
      storeNames,
    });
    if (rule !== undefined) rules.push({ name: rule.name, rule, fields });
  }
  checkRuleNames(rules);

  const [first, ...others] = sortFaults(faults);
  if (first !== undefined) throw new PolicyInvalid([first, ...others]);
  return {
    clockSkew,
    keys,
    keyrings,
    revokedKeys: revoked.keys,
    revokedDigests: revoked.digests,
    stores,
    imageDirectories,
    rules: rules.map(({ rule }) => rule),
    digest: `sha256:${digest.digest('hex')}`,
  };
}

/** The tables of all files, by name. */
class Tables {
  /** False once a file or table could not be read at all: then names may be defined that nobody knows of. */
  complete = true;
  readonly #tables = new Map<TableName, Fields[]>(tableNames.map((name) => [name, []]));

  of(name: TableName): readonly Fields[] {
    return this.#tables.get(name) ?? [];
  }

  add(name: TableName, fields: Fields): void {
    this.#tables.get(name)?.push(fields);
  }
}

function readTables(file: PolicyFile, tables: Tables, report: (fault: PolicyFault) => void): void {
  const fault = (line: number, key: string | undefined, reason: string): void => {
    tables.complete = false;
    report({ file: file.path, line, key, reason });
  };
  let document;
  try {
    document = parseToml(file.text, { maxDepth: 16 });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [summary = ''] = error.message.split('\n');
    fault(error.line, undefined, summary.replace('Invalid TOML document: ', 'not TOML: '));
    return;
  }
  const lines = indexTomlLines(file.text);
  for (const [key, value] of Object.entries(document)) {
    const name = tableNames.find((known) => known === key);
    if (name === undefined) {
      const nearest = nearestName(key, tableNames);
      const hint =
        nearest === undefined ? `known are ${tableNames.join(', ')}` : `did you mean "${nearest}"?`;
      const kind = typeof value === 'object' ? 'table' : 'field';
      fault(lines.lineOf(key), undefined, `unknown ${kind} "${key.slice(0, 64)}"; ${hint}`);
      continue;
    }
    const schema = tableSchemas[name];
    if (schema.kind === 'single') {
      if (isTable(value))
        tables.add(name, new Fields(value, schema, { file: file.path, key: name, lines }, report));
      else fault(lines.lineOf(name), name, `begin it with [${name}], in one pair of brackets`);
      continue;
    }
    const entries: readonly unknown[] = Array.isArray(value) ? value : [undefined];
    if (entries.length > listEntriesMax) {
      fault(lines.lineOf(name), name, `${entries.length} are more than ${listEntriesMax}`);
      continue;
    }
    for (const [index, entry] of entries.entries()) {
      if (isTable(entry)) {
        tables.add(
          name,
          new Fields(entry, schema, { file: file.path, key: `${name}[${index}]`, lines }, report),
        );
      } else {
        fault(lines.lineOf(name), name, `begin each entry with [[${name}]], in two pairs of brackets`);
      }
    }
  }
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Lengths go before the bytes, so that nothing moves from one file to the next unseen. */
function addBytes(hash: ReturnType<typeof createHash>, file: PolicyFile): void {
  const path = Buffer.from(file.path, 'utf8');
  const text = Buffer.from(file.text, 'utf8');
  hash.update(`${path.length} ${text.length}\n`).update(path).update(text);
}
