import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import type { Attribute, VerityLevel } from '../policy/policy.ts';
import { attributes } from '../policy/policy.ts';
import type { FileSystem } from '../trust/file-system.ts';
import { fileSystems, parseFileSystem } from '../trust/file-system.ts';
import { CommandError } from './command-error.ts';

/** What `-o` asks of mount.cfs-delegated. */
export interface DelegatedOptions {
  /** Directories with the image's files, in order; each may be one of the policy's stores. */
  readonly basedirs: readonly string[];
  readonly digest: Digest | undefined;
  readonly verity: VerityLevel;
  /** Signature files; empty: IMAGE.sig where it exists. */
  readonly signatures: readonly string[];
  /** undefined: `caller` inside a user namespace, else `none`. */
  readonly idmap: 'none' | 'caller' | undefined;
  readonly type: FileSystem | undefined;
  /** Path of the service's socket; undefined: the default one. */
  readonly socket: string | undefined;
  readonly unsigned: boolean;
  readonly attributes: readonly Attribute[];
}

const verityLevelOfCheck: ReadonlyMap<string, VerityLevel> = new Map([
  ['0', 'never'],
  ['1', 'ifPresent'],
  ['2', 'require'],
]);

/** Options that mean nothing here, or nothing more than what holds anyway: see mount(8), "user" and its kin included. */
const ignored = new Set([
  ...['rw', 'defaults', 'suid', 'dev', 'exec', 'nofail', '_netdev', 'auto', 'noauto'],
  ...['user', 'nouser', 'users', 'nousers', 'owner', 'noowner', 'group', 'nogroup'],
]);

const known: ReadonlySet<string> = new Set([
  ...['basedir', 'digest', 'verity_check', 'signature', 'idmap', 'type', 'socket'],
]);

/**
 * What the option strings ask for, each string a list as after one `-o`. The last of several values of one option
 * counts, as in mount(8); signatures and attributes add up. With `sloppy`, unknown options are passed over. Throws
 * CommandError, exit code 1.
 */
export function parseDelegatedOptions(lists: readonly string[], sloppy = false): DelegatedOptions {
  const values = new Map<string, string>();
  const signatures: string[] = [];
  const added = new Set<Attribute>();
  let unsigned = false;
  for (const option of lists.flatMap(splitOptions)) {
    const [name, value] = nameAndValue(option);
    const attribute = attributes.find((known) => known === option);
    if (attribute !== undefined) added.add(attribute);
    else if (option === 'unsigned') unsigned = true;
    else if (known.has(name)) {
      if (value === undefined || value === '')
        throw new CommandError(`the option ${name} needs a value: ${name}=…`);
      if (name === 'signature') signatures.push(value);
      else values.set(name, value);
    } else if (!isIgnored(option, name) && !sloppy) {
      throw new CommandError(`unknown option "${option}"`);
    }
  }
  const digest = parseDigestOption(values.get('digest'));
  return {
    basedirs: parseBasedirs(values.get('basedir')),
    digest,
    verity: parseVerityCheck(values.get('verity_check') ?? (digest === undefined ? '1' : '2')),
    signatures,
    idmap: parseIdmap(values.get('idmap')),
    type: parseType(values.get('type')),
    socket: values.get('socket'),
    unsigned,
    attributes: attributes.filter((attribute) => added.has(attribute)),
  };
}

/** The options of one list: separated by commas, where a comma within a value is written `\,`. Empty ones are left out. */
export function splitOptions(list: string): string[] {
  return list
    .split(/(?<!\\),/)
    .map((option) => option.replaceAll('\\,', ','))
    .filter((option) => option !== '');
}

/** The filesystem of that name. Throws CommandError, exit code 1. */
export function parseType(name: string | undefined): FileSystem | undefined {
  if (name === undefined) return undefined;
  const type = parseFileSystem(name);
  if (type === undefined) throw new CommandError(`type=${name}: not one of ${fileSystems.join(', ')}`);
  return type;
}

function nameAndValue(option: string): [name: string, value: string | undefined] {
  const at = option.indexOf('=');
  return at < 0 ? [option, undefined] : [option.slice(0, at), option.slice(at + 1)];
}

function isIgnored(option: string, name: string): boolean {
  return ignored.has(option) || name === 'user' || /^[xX]-/.test(option);
}

function parseDigestOption(text: string | undefined): Digest | undefined {
  if (text === undefined) return undefined;
  const digest = parseDigest(text.startsWith('sha256:') ? text : `sha256:${text}`);
  if (digest === undefined) throw new CommandError(`digest=${text}: not 64 lower-case hexadecimal digits`);
  return digest;
}

function parseBasedirs(text: string | undefined): string[] {
  if (text === undefined) return [];
  const directories = text.split(':');
  if (directories.includes('')) throw new CommandError(`basedir=${text}: an empty directory name`);
  return directories;
}

/** The level that `verity_check` of that value stands for. Throws CommandError, exit code 1. */
export function parseVerityCheck(text: string): VerityLevel {
  const level = verityLevelOfCheck.get(text);
  if (level === undefined) throw new CommandError(`verity_check=${text}: not 0, 1 or 2`);
  return level;
}

function parseIdmap(text: string | undefined): 'none' | 'caller' | undefined {
  if (text === undefined || text === 'none' || text === 'caller') return text;
  throw new CommandError(`idmap=${text}: not none or caller`);
}
