import { foreignText } from '../base/foreign-text.ts';
import type { Digest } from '../base/digest.ts';
import { digestHex, parseDigest } from '../base/digest.ts';
import type { FileSystem } from './file-system.ts';
import { fileSystems, parseFileSystem } from './file-system.ts';
import { parseStrictJson } from './json.ts';
import { formatTime, parseTime } from './time.ts';

/** What a signer says of an image. */
export interface Statement {
  /** The signed name. */
  readonly name: string;
  readonly digest: Digest;
  readonly fileSystem: FileSystem;
  /** 0 to 2^53 - 1. */
  readonly version?: number;
  readonly notBefore?: Date;
  /** From this moment on the statement no longer counts. */
  readonly expires?: Date;
}

/** The statement is malformed; the message says where and why. */
export class StatementInvalid extends Error {
  override readonly name = 'StatementInvalid';
}

const statementType = 'https://in-toto.io/Statement/v1';
const predicateType = 'urn:cfs-mountd:image:v1';
/** log2 of the block size, 4096, as the contract names the algorithm. */
const digestAlgorithm = 'fsverity-sha256-12';

/**
 * Whether `text` is a path as the interface takes it: at most 255 bytes of segments joined by "/", none of them "."
 * or "..". Signed names may hold ":" beside what paths of image files may.
 */
export function isPathOfSegments(text: string, kind: 'signed' | 'file'): boolean {
  if (text.length > 255) return false;
  const segment = kind === 'signed' ? /^[A-Za-z0-9._@+:-]+$/ : /^[A-Za-z0-9._@+-]+$/;
  return text.split('/').every((part) => segment.test(part) && part !== '.' && part !== '..');
}

/**
 * The statement that a payload holds (in-toto Statement v1 with one subject). Members of the predicate that are not
 * known refuse it: a later version may use one to limit what the signer vouches for. Elsewhere in-toto's parsing
 * rules ask consumers to ignore them. Throws StatementInvalid.
 */
export function parseStatement(payload: Uint8Array): Statement {
  const statement = object(json(payload), 'statement');
  if (statement['_type'] !== statementType) throw new StatementInvalid(`_type is not "${statementType}"`);
  if (statement['predicateType'] !== predicateType) {
    throw new StatementInvalid(`predicateType is not "${predicateType}"`);
  }
  const subjects = statement['subject'];
  if (!Array.isArray(subjects) || subjects.length !== 1)
    throw new StatementInvalid('subject is not a list of one');
  return {
    ...parseSubject(object(subjects[0], 'subject')),
    ...parsePredicate(object(statement['predicate'], 'predicate')),
  };
}

/** The payload bytes of a statement: JSON without white space, members always in the same order. */
export function formatStatement(statement: Statement): Uint8Array {
  checkName(statement.name);
  if (statement.version !== undefined) checkVersion(statement.version);
  const text = JSON.stringify({
    _type: statementType,
    subject: [{ name: statement.name, digest: { [digestAlgorithm]: digestHex(statement.digest) } }],
    predicateType,
    predicate: {
      fileSystem: statement.fileSystem,
      version: statement.version,
      notBefore: statement.notBefore && formatTime(statement.notBefore),
      expires: statement.expires && formatTime(statement.expires),
    },
  });
  return new TextEncoder().encode(text);
}

/** Whether both say the same. */
export function equalStatements(a: Statement, b: Statement): boolean {
  return (
    a.name === b.name &&
    a.digest === b.digest &&
    a.fileSystem === b.fileSystem &&
    a.version === b.version &&
    a.notBefore?.getTime() === b.notBefore?.getTime() &&
    a.expires?.getTime() === b.expires?.getTime()
  );
}

function parseSubject(subject: Readonly<Record<string, unknown>>): Pick<Statement, 'name' | 'digest'> {
  const name = subject['name'];
  if (typeof name !== 'string') throw new StatementInvalid('subject[0].name is not a string');
  checkName(name);
  const digests = object(subject['digest'], 'subject[0].digest');
  const hex = digests[digestAlgorithm];
  const digest = typeof hex === 'string' ? parseDigest(`sha256:${hex}`) : undefined;
  if (digest === undefined || Object.keys(digests).length !== 1) {
    throw new StatementInvalid(
      `subject[0].digest is not {"${digestAlgorithm}": <64 lower-case hexadecimal digits>}`,
    );
  }
  return { name, digest };
}

function parsePredicate(predicate: Readonly<Record<string, unknown>>): Omit<Statement, 'name' | 'digest'> {
  const { fileSystem: type, version, notBefore, expires, ...others } = predicate;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) {
    throw new StatementInvalid(`predicate.${foreignText(unknown)} is not known to this version`);
  }
  const fileSystem = typeof type === 'string' ? parseFileSystem(type) : undefined;
  if (fileSystem === undefined) {
    throw new StatementInvalid(`predicate.fileSystem is none of ${fileSystems.join(', ')}`);
  }
  return {
    fileSystem,
    ...(version !== undefined && { version: checkVersion(version) }),
    ...(notBefore !== undefined && { notBefore: time(notBefore, 'notBefore') }),
    ...(expires !== undefined && { expires: time(expires, 'expires') }),
  };
}

function checkName(name: string): void {
  if (isPathOfSegments(name, 'signed')) return;
  throw new StatementInvalid(
    'the name is not at most 255 bytes of segments of [A-Za-z0-9._@+:-] joined by "/", none of them "." or ".."',
  );
}

function checkVersion(version: unknown): number {
  if (typeof version === 'number' && Number.isSafeInteger(version) && version >= 0) return version;
  throw new StatementInvalid('the version is not a whole number from 0 to 2^53 - 1');
}

function time(value: unknown, field: string): Date {
  const date = typeof value === 'string' ? parseTime(value) : undefined;
  if (date === undefined)
    throw new StatementInvalid(`predicate.${field} is not a time as RFC 3339 writes it`);
  return date;
}

function json(payload: Uint8Array): unknown {
  try {
    return parseStrictJson(payload);
  } catch (error) {
    throw new StatementInvalid(
      `the payload is not JSON: ${error instanceof Error ? error.message : 'unknown'}`,
    );
  }
}

function object(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new StatementInvalid(`${what} is not an object`);
}
