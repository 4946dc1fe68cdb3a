import { isPathOfSegments } from '../trust/statement.ts';
import { parseStrictJson } from '../trust/json.ts';

/** Where the newest versions are kept, below the daemon's state directory. */
export const versionsFileName = 'versions.jsonl';

/** The newest version of an image that was mounted under a rule. */
export interface NewestVersion {
  readonly rule: string;
  /** The signed name. */
  readonly name: string;
  /** 0 to 2^53 - 1. */
  readonly version: number;
}

/** The file is damaged: `line` counts from 1. Nothing in it may be trusted then, and nothing that it protects mounted. */
export class VersionsFileInvalid extends Error {
  override readonly name = 'VersionsFileInvalid';
  readonly line: number;
  readonly reason: string;

  constructor(line: number, reason: string) {
    super(`line ${line}: ${reason}`);
    this.line = line;
    this.reason = reason;
  }
}

/** What is wrong with the versions file at `path`, and how an administrator gets out of it. */
export function describeDamage(path: string, { message }: VersionsFileInvalid): string {
  return (
    `${path}: ${message}; nothing is mounted while it is damaged. Restore it from a backup, or take the line out or ` +
    'the file away: then the newest versions that it held are forgotten, and an older image can be mounted once more'
  );
}

/** A key for maps, one for each pair of a rule and a name. */
export function versionKey(rule: string, name: string): string {
  return JSON.stringify([rule, name]);
}

/**
 * The entries of a versions file: one JSON object {"rule", "name", "version"} per line, each line ended by a newline,
 * each rule and name once. Throws VersionsFileInvalid for anything else: a version that is forgotten lets an old image
 * in again.
 */
export function parseVersionsFile(bytes: Uint8Array): readonly NewestVersion[] {
  const entries: NewestVersion[] = [];
  const seen = new Set<string>();
  let start = 0;
  for (let line = 1; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0) throw new VersionsFileInvalid(line, 'cut off: the last line has no newline');
    const entry = parseLine(bytes.subarray(start, end), line);
    const key = versionKey(entry.rule, entry.name);
    if (seen.has(key)) throw new VersionsFileInvalid(line, 'the same rule and name a second time');
    seen.add(key);
    entries.push(entry);
    start = end + 1;
  }
  return entries;
}

/** The bytes of the file that holds these entries, sorted, so that the same entries are always the same bytes. */
export function formatVersionsFile(entries: Iterable<NewestVersion>): Uint8Array {
  const lines = Array.from(
    entries,
    ({ rule, name, version }) => `${JSON.stringify({ rule, name, version })}\n`,
  );
  return new TextEncoder().encode(lines.sort().join(''));
}

function parseLine(bytes: Uint8Array, line: number): NewestVersion {
  let value: unknown;
  try {
    value = parseStrictJson(bytes);
  } catch (error) {
    throw new VersionsFileInvalid(line, `not JSON: ${error instanceof Error ? error.message : 'unknown'}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new VersionsFileInvalid(line, 'not an object');
  }
  const { rule, name, version, ...others } = value as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined)
    throw new VersionsFileInvalid(line, `the member "${unknown.slice(0, 64)}" is not known`);
  if (typeof rule !== 'string' || rule === '') throw new VersionsFileInvalid(line, 'rule is not a name');
  if (typeof name !== 'string' || !isPathOfSegments(name, 'signed')) {
    throw new VersionsFileInvalid(line, 'name is not a signed name');
  }
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 0) {
    throw new VersionsFileInvalid(line, 'version is not a whole number from 0 to 2^53 - 1');
  }
  return { rule, name, version };
}
