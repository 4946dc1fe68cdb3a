import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import { DumpError } from './errors.ts';
import { unescapeText } from './dump-text.ts';
import * as format from './format.ts';
import { fileFault, targetFault, xattrsFault } from './tree-check.ts';
import type {
  Directory,
  FileContent,
  Inode,
  InodeAttributes,
  RegularFile,
  Timestamp,
  Xattr,
} from './tree.ts';

/** One line of a dump: an inode, or a further name of the inode at the path `linkTo`. */
export type DumpLine =
  { readonly path: string; readonly inode: Inode } | { readonly path: string; readonly linkTo: string };

const fieldCount = 11;
const uint32Max = 0xffffffffn;
const uint64Max = 0xffffffffffffffffn;
/** mkcomposefs's limit, in bytes of escaped text. */
const xattrTextBytesMax = 65535;

const fieldNames = [
  'PATH',
  'SIZE',
  'MODE',
  'NLINK',
  'UID',
  'GID',
  'RDEV',
  'MTIME',
  'PAYLOAD',
  'CONTENT',
  'DIGEST',
] as const;
type FieldName = (typeof fieldNames)[number];

/** The fixed fields of a line, still escaped. */
class Fields {
  readonly line: number;
  readonly #fields: readonly string[];

  constructor(line: number, fields: readonly string[]) {
    this.line = line;
    this.#fields = fields;
  }

  fail(reason: string): never {
    throw new DumpError(this.line, reason);
  }

  raw(name: FieldName): string {
    return this.#fields[fieldNames.indexOf(name)] ?? this.fail(`the field ${name} is missing`);
  }

  text(name: FieldName): string {
    return unescapeText(this.raw(name)) ?? this.fail(`the field ${name} has an invalid escape`);
  }

  optionalText(name: FieldName): string | undefined {
    return this.raw(name) === '-' ? undefined : this.text(name);
  }

  uint(name: FieldName, max: bigint): bigint {
    const raw = this.raw(name);
    if (!/^[0-9]{1,20}$/.test(raw)) this.fail(`the field ${name} is not a number: ${JSON.stringify(raw)}`);
    const value = BigInt(raw);
    return value <= max ? value : this.fail(`the field ${name} is above ${max.toString()}`);
  }

  uint32(name: FieldName): number {
    return Number(this.uint(name, uint32Max));
  }
}

function parseMode(fields: Fields): { link: boolean; mode: number } {
  const match = /^(@?)([0-7]{1,8})$/.exec(fields.raw('MODE'));
  const mode = Number.parseInt(match?.[2] ?? '', 8);
  if (Number.isNaN(mode)) fields.fail('the field MODE is not an octal number');
  if (mode > 0o177777) fields.fail('the field MODE has bits that no mode has');
  return { link: match?.[1] === '@', mode };
}

function parseTime(fields: Fields): Timestamp {
  const match = /^(-?[0-9]{1,19})\.([0-9]{1,9})$/.exec(fields.raw('MTIME'));
  if (match === null) fields.fail('the field MTIME is not seconds and nanoseconds');
  const seconds = BigInt(match[1] ?? '');
  if (BigInt.asIntN(64, seconds) !== seconds) fields.fail('the field MTIME does not fit into 64 bits');
  return { seconds, nanoseconds: Number(match[2]) };
}

function parseXattrs(fields: Fields, texts: readonly string[]): Xattr[] {
  const bytes = texts.reduce((sum, text) => sum + text.length + 1, 0);
  if (bytes > xattrTextBytesMax) fields.fail('there are too many extended attributes');
  const byName = new Map<string, Uint8Array>();
  for (const text of texts) {
    const split = text.indexOf('=');
    if (split < 0) fields.fail('an extended attribute has no "="');
    const name = unescapeText(text.slice(0, split));
    const value = unescapeText(text.slice(split + 1));
    if (name === undefined || value === undefined) fields.fail('an extended attribute has an invalid escape');
    byName.set(name, Buffer.from(value, 'latin1'));
  }
  const xattrs = Array.from(byName, ([name, value]) => ({ name, value }));
  const fault = xattrsFault(xattrs);
  return fault === undefined ? xattrs : fields.fail(fault);
}

function parseFileDigest(fields: Fields): Digest | undefined {
  const text = fields.optionalText('DIGEST');
  if (text === undefined) return undefined;
  return (
    parseDigest(`sha256:${text.toLowerCase()}`) ??
    fields.fail('the field DIGEST is not 64 hexadecimal digits')
  );
}

function parseFile(fields: Fields, attributes: InodeAttributes, nlink: number): RegularFile {
  const size = Number(fields.uint('SIZE', uint64Max));
  const bytes = parseContent(fields);
  const digest = parseFileDigest(fields);
  let content: FileContent;
  if (size === 0 || (bytes !== undefined && bytes.length > 0)) {
    content = { kind: 'inline', bytes: bytes ?? new Uint8Array(0) };
  } else {
    content = { kind: 'external', path: fields.optionalText('PAYLOAD') ?? undefined, digest };
    if (content.path === '') content = { ...content, path: undefined };
  }
  const file: RegularFile = { ...attributes, type: 'file', size, content, nlink };
  const fault = fields.uint('SIZE', uint64Max) > 2n ** 53n ? 'the file is too big' : fileFault(file);
  return fault === undefined ? file : fields.fail(fault);
}

function parseContent(fields: Fields): Uint8Array | undefined {
  const text = fields.optionalText('CONTENT');
  if (text === undefined) return undefined;
  if (BigInt(text.length) !== fields.uint('SIZE', uint64Max)) {
    fields.fail(`there are ${text.length} bytes of content for a size of ${fields.raw('SIZE')}`);
  }
  return Buffer.from(text, 'latin1');
}

function parseTarget(fields: Fields): string {
  const target = fields.optionalText('PAYLOAD') ?? '';
  const fault = targetFault(target);
  return fault === undefined ? target : fields.fail(fault);
}

function parseInode(fields: Fields, mode: number, xattrTexts: readonly string[]): Inode {
  // Fields that this type does not use must be well-formed all the same.
  fields.uint('SIZE', uint64Max);
  const rdev = fields.uint('RDEV', uint64Max);
  const nlink = fields.uint32('NLINK');
  const attributes: InodeAttributes = {
    mode: mode & 0o7777,
    uid: fields.uint32('UID'),
    gid: fields.uint32('GID'),
    mtime: parseTime(fields),
    xattrs: parseXattrs(fields, xattrTexts),
  };
  switch (mode & format.modeTypeMask) {
    case format.modeDirectory:
      return { ...attributes, type: 'directory', entries: new Map() } satisfies Directory;
    case format.modeFile:
      return parseFile(fields, attributes, nlink);
    case format.modeSymlink:
      return { ...attributes, type: 'symlink', target: parseTarget(fields), nlink };
    case format.modeCharacter:
    case format.modeBlock: {
      if (rdev > uint32Max) fields.fail('the field RDEV does not fit into 32 bits');
      const type = (mode & format.modeTypeMask) === format.modeBlock ? 'block' : 'character';
      return { ...attributes, type, rdev: Number(rdev), nlink };
    }
    case format.modeFifo:
      return { ...attributes, type: 'fifo', nlink };
    case format.modeSocket:
      return { ...attributes, type: 'socket', nlink };
    default:
      return fields.fail('the field MODE has no file type');
  }
}

/** Parse the line with the number `line`; `text` is a binary string without the newline. Throws DumpError. */
export function parseDumpLine(text: string, line: number): DumpLine {
  if (text.includes('\0')) throw new DumpError(line, 'a zero byte stands in the line');
  const parts = text.split(' ');
  const fields = new Fields(line, parts.slice(0, fieldCount));
  const path = fields.text('PATH');
  if (!path.startsWith('/')) fields.fail('the path is not absolute');
  const { link, mode } = parseMode(fields);
  if (!link) return { path, inode: parseInode(fields, mode, parts.slice(fieldCount)) };
  if ((mode & format.modeTypeMask) === format.modeDirectory) fields.fail('a directory cannot be a hard link');
  return { path, linkTo: fields.optionalText('PAYLOAD') ?? fields.fail('the hard link has no target') };
}
