import { fileSystems } from '../trust/file-system.ts';
import { attributes, signatureFormats } from './policy.ts';

// What a policy file may hold: the one description by which files are parsed, and from which the JSON Schema for editors
// is made (json-schema.ts). What fields mean for each other is checked in parse-rule.ts and parse-tables.ts.

/** Entries of any list in a policy: far more than an administrator writes, and few enough to walk for each request. */
export const listEntriesMax = 1024;

/** Characters of any string in a policy; an inline key is the longest. */
export const stringCharactersMax = 4096;

/** A string: one of `choices`, or one that `pattern` (ECMA 262) matches, where they are given. */
interface TextSchema {
  readonly choices?: readonly string[];
  readonly pattern?: string;
}

/** One field of a table. */
export type FieldSchema = {
  readonly about: string;
  readonly required?: true;
  /** What holds where the field is left out. */
  readonly default?: string | number | boolean | readonly string[];
} & (
  | ({ readonly kind: 'string' } & TextSchema)
  | ({ readonly kind: 'list'; readonly empty?: 'allowed' } & TextSchema)
  | { readonly kind: 'boolean' }
  | { readonly kind: 'integer'; readonly minimum: number; readonly maximum: number }
  /** A date and time with its offset from UTC. */
  | { readonly kind: 'time' }
);

/** One kind of table. */
export interface TableSchema {
  readonly about: string;
  /** list: written [[name]], any number of times; single: written [name], at most once in a file. */
  readonly kind: 'list' | 'single';
  readonly fields: Readonly<Record<string, FieldSchema>>;
  /** Of these fields, exactly one is given. */
  readonly exactlyOne?: readonly string[];
  /** Fields that do not go with the one that names them here. */
  readonly excludes?: Readonly<Record<string, readonly string[]>>;
  /** Of these, at least one is given, or else `alone` is true; never both. */
  readonly grounds?: { readonly some: readonly string[]; readonly alone: string };
}

const digestPattern = '^sha256:[0-9a-f]{64}$';
const label = '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]{1,128}$';
const directory = '^/';
/** Names that begin with a dot: keyrings of these, only the kernel makes. */
const keyringPattern = '^\\.[a-z0-9_-]{1,63}$';

/** The name of a kind of table. */
export type TableName = 'clock' | 'keys' | 'revoked' | 'stores' | 'image-directories' | 'rules';

/** The tables of a policy, by name. */
export const tableSchemas: Readonly<Record<TableName, TableSchema>> = {
  clock: {
    about: "How far this machine's clock may be wrong.",
    kind: 'single',
    fields: {
      'skew-seconds': {
        about: 'Times of keys and statements are taken as wider by this much at both ends.',
        kind: 'integer',
        minimum: 0,
        maximum: 86_400,
        required: true,
      },
    },
  },
  keys: {
    about: 'Trusted keys. Where a rule names none, none is trusted.',
    kind: 'list',
    exactlyOne: ['file', 'public-key', 'keyring'],
    excludes: { keyring: ['authority', 'names'] },
    fields: {
      id: { about: 'The name that rules use.', kind: 'string', pattern: label, required: true },
      file: {
        about: 'A file in keys.d: PEM, a line of OpenSSH, or an X.509 certificate.',
        ...{ kind: 'string', pattern: '^(?!\\.{1,2}$)[^/\\u0000]+$' },
      },
      authority: {
        about: 'Whether certificates that the one in file issued count as well, as its word.',
        kind: 'boolean',
        default: false,
      },
      'public-key': { about: "Base64 of the key's SubjectPublicKeyInfo in DER.", kind: 'string' },
      keyring: {
        about:
          "A keyring of the kernel's, such as .fs-verity: signatures by the keys in it count as its word.",
        kind: 'string',
        pattern: keyringPattern,
      },
      'not-before': { about: 'When the key begins to count.', kind: 'time' },
      'not-after': { about: 'The last moment at which it counts.', kind: 'time' },
      names: {
        about: 'Patterns of the names that the key may speak for, whichever rule asks.',
        kind: 'list',
      },
    },
  },
  revoked: {
    about: 'Keys and digests that count for nothing, whatever the rules say.',
    kind: 'list',
    exactlyOne: ['key', 'digest'],
    fields: {
      key: {
        about: "Hex SHA-256 of the key's SubjectPublicKeyInfo.",
        ...{ kind: 'string', pattern: '^[0-9a-f]{64}$' },
      },
      digest: { about: "An image's digest.", kind: 'string', pattern: digestPattern },
    },
  },
  stores: {
    about: 'Directories in which composefs images find their files.',
    kind: 'list',
    fields: {
      name: { about: 'The name that rules use.', kind: 'string', pattern: label, required: true },
      path: { about: 'An absolute path.', kind: 'string', pattern: directory, required: true },
      verity: {
        about: 'require: the kernel checks each file by fs-verity; trusted: nothing is checked.',
        kind: 'string',
        choices: ['require', 'trusted'],
        required: true,
      },
    },
  },
  'image-directories': {
    about: 'Directories of images that can be mounted by name and by digest.',
    kind: 'list',
    fields: { path: { about: 'An absolute path.', kind: 'string', pattern: directory, required: true } },
  },
  rules: {
    about: 'Who may mount what. The first rule whose conditions hold decides.',
    kind: 'list',
    grounds: { some: ['signed-by', 'digests', 'locations'], alone: 'unsigned' },
    fields: {
      name: { about: 'For audit and refusals.', kind: 'string', pattern: label, required: true },
      users: { about: 'Names, IDs, ranges such as "1000-1999", or "*".', kind: 'list' },
      groups: { about: 'Names or IDs; the caller is in one of them.', kind: 'list' },
      images: {
        about: 'Patterns of the signed name; * stays within a segment, ** does not.',
        kind: 'list',
      },
      digests: { about: 'Digests that are let in.', kind: 'list', pattern: digestPattern },
      locations: {
        about: 'Directories below which the service itself opened the image.',
        kind: 'list',
        pattern: directory,
      },
      'signed-by': { about: 'IDs of keys.', kind: 'list' },
      threshold: {
        about: 'How many distinct keys of signed-by must have signed.',
        kind: 'integer',
        minimum: 1,
        maximum: listEntriesMax,
        default: 1,
      },
      formats: {
        about: 'Signature formats that are taken.',
        kind: 'list',
        choices: signatureFormats,
        default: ['dsse'],
      },
      unsigned: {
        about: 'Lets in what nobody signed, for callers that ask for it.',
        kind: 'boolean',
        default: false,
      },
      'file-systems': {
        about: 'What the image may be.',
        kind: 'list',
        choices: fileSystems,
        default: ['composefs'],
      },
      stores: { about: 'Stores that the image may use.', kind: 'list' },
      'client-stores': {
        about: "Whether directories of the client's may be stores; then every file is checked.",
        kind: 'boolean',
        default: false,
      },
      'add-objects': {
        about: 'Stores to which the caller may add files that an image of this rule names.',
        kind: 'list',
        empty: 'allowed',
        default: [],
      },
      'add-bytes-per-hour': {
        about: 'How many bytes each caller may add to them within an hour.',
        kind: 'integer',
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
      },
      verity: {
        about: 'How files are checked as they are opened, at least.',
        kind: 'string',
        choices: ['require', 'if-present', 'never'],
        default: 'require',
      },
      attributes: {
        about: "Set on every mount, beyond the receiver's reach.",
        kind: 'list',
        choices: attributes,
        default: ['ro', 'nosuid', 'nodev'],
      },
      devices: { about: 'Whether images may hold device nodes.', kind: 'boolean', default: false },
      unscanned: {
        about:
          'Whether nodev is enough for images that nothing but the kernel reads: squashfs, ext4, xfs, btrfs, ddi.',
        kind: 'boolean',
        default: false,
      },
      share: {
        about: "With whom the mount's inodes may be shared.",
        kind: 'string',
        choices: ['user', 'everyone'],
        default: 'user',
      },
      'rollback-protection': {
        about: 'Refuses versions older than the newest mounted under this rule.',
        kind: 'boolean',
        default: false,
      },
    },
  },
};

/** All of them. */
export const tableNames: readonly TableName[] = Object.keys(tableSchemas) as TableName[];
