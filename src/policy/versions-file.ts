import { foreignText } from '../base/foreign-text.ts';
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
    `${path}: ${message}; nothing is mounted while it is damaged. Restore it from a backup, or keep what can be read of it ` +
    '(cfs-mountctl versions --repair): what the rest held is forgotten, and older images of that can be mounted once more'
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
  const { entries, lost } = salvageVersionsFile(bytes);
  const [first] = lost;
  if (first !== undefined) throw new VersionsFileInvalid(first.line, first.reason);
  return entries;
}

/** A line of a damaged file that cannot be used as it is. */
export interface LostLine {
  /** Counted from 1. */
  readonly line: number;
  readonly reason: string;
  readonly bytes: Uint8Array;
}

/**
 * What can still be read of a versions file, and what cannot. Of a rule and name that are there twice the higher version counts: it is
 * the one that lets fewer images in.
 */
export function salvageVersionsFile(bytes: Uint8Array): {
  readonly entries: readonly NewestVersion[];
  readonly lost: readonly LostLine[];
} {
  const entries = new Map<string, NewestVersion>();
  const lost: LostLine[] = [];
  let start = 0;
  for (let line = 1; start < bytes.length; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const text = bytes.subarray(start, newline < 0 ? bytes.length : newline);
    start += text.length + 1;
    const lose = (reason: string): void => void lost.push({ line, reason, bytes: text });
    if (newline < 0) {
      lose('cut off: the last line has no newline');
      continue;
    }
    const entry = parseLine(text);
    if (typeof entry === 'string') {
      lose(entry);
      continue;
    }
    const key = versionKey(entry.rule, entry.name);
    const earlier = entries.get(key);
    if (earlier !== undefined) lose('the same rule and name a second time');
    if (earlier === undefined || earlier.version < entry.version) entries.set(key, entry);
  }
  return { entries: [...entries.values()], lost };
}

/** The bytes of the file that holds these entries, sorted, so that the same entries are always the same bytes. */
export function formatVersionsFile(entries: Iterable<NewestVersion>): Uint8Array {
  const lines = Array.from(
    entries,
    ({ rule, name, version }) => `${JSON.stringify({ rule, name, version })}\n`,
  );
  return new TextEncoder().encode(lines.sort().join(''));
}

/** The entry of a line, or what is wrong with it. */
function parseLine(bytes: Uint8Array): NewestVersion | string {
  let value: unknown;
  try {
    value = parseStrictJson(bytes);
  } catch (error) {
    return `not JSON: ${error instanceof Error ? error.message : 'unknown'}`;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'not an object';
  const { rule, name, version, ...others } = value as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) return `the member "${foreignText(unknown)}" is not known`;
  if (typeof rule !== 'string' || rule === '') return 'rule is not a name';
  if (typeof name !== 'string' || !isPathOfSegments(name, 'signed')) return 'name is not a signed name';
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 0)
    return 'version is not a whole number from 0 to 2^53 - 1';
  return { rule, name, version };
}
