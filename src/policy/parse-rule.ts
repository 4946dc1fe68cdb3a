import type { Accounts } from './accounts.ts';
import type { Fields } from './fields.ts';
import { parsePattern } from './pattern.ts';
import type { PolicyKey, PolicyKeyring, Rule } from './policy.ts';
import type { Names } from './parse-tables.ts';
import {
  parseAttribute,
  parseChoice,
  parseDigestValue,
  parseDirectory,
  parseFileSystemValue,
  parseGroup,
  parseLabel,
  parseSignatureFormat,
  parseUser,
  parseVerityLevel,
} from './values.ts';

/** What rules refer to. */
export interface RuleContext {
  readonly accounts: Accounts;
  /** The path with its links resolved, as far as it exists. */
  readonly realPath: (path: string) => string;
  /** The keys that are sound. */
  readonly keys: ReadonlyMap<string, PolicyKey>;
  readonly keyrings: ReadonlyMap<string, PolicyKeyring>;
  readonly keyNames: Names;
  readonly storeNames: Names;
}

/** The rule that a table writes, its defaults filled in, or undefined once what is wrong with it has been reported. */
export function parseRule(fields: Fields, context: RuleContext): Rule | undefined {
  const { accounts, keyNames, storeNames } = context;
  const store = (text: string): string => storeNames.check(text, 'store');
  const signedBy = fields.list('signed-by', (text) => keyNames.check(text, 'key'));
  const threshold = fields.integer('threshold');
  checkThreshold(fields, threshold, signedBy, context);
  const name = fields.string('name', parseLabel);
  const digests = fields.list('digests', parseDigestValue);
  const rule: Rule = {
    name: name ?? '',
    file: fields.place.file,
    line: fields.line,
    users: fields.list('users', (text) => parseUser(text, accounts)),
    groups: fields.list('groups', (text) => parseGroup(text, accounts)),
    images: fields.list('images', parsePattern),
    digests: digests && new Set(digests),
    // The daemon tells where an image lies with links resolved, such as that of /lib into /usr/lib.
    locations: unique(fields.list('locations', withRealPath(context))?.flat()),
    signedBy:
      signedBy && [...context.keys.keys(), ...context.keyrings.keys()].filter((id) => signedBy.includes(id)),
    threshold: threshold ?? 1,
    formats: unique(fields.list('formats', parseSignatureFormat)) ?? ['dsse'],
    unsigned: fields.boolean('unsigned') ?? false,
    fileSystems: unique(fields.list('file-systems', parseFileSystemValue)) ?? ['composefs'],
    stores: unique(fields.list('stores', store)) ?? [],
    clientStores: fields.boolean('client-stores') ?? false,
    // The contract's own example writes this list empty; it says no more than leaving it out.
    addObjects: unique(fields.list('add-objects', store)) ?? [],
    addBytesPerHour: fields.integer('add-bytes-per-hour'),
    verity: fields.string('verity', parseVerityLevel) ?? 'require',
    attributes: unique(fields.list('attributes', parseAttribute)) ?? ['ro', 'nosuid', 'nodev'],
    devices: fields.boolean('devices') ?? false,
    unscanned: fields.boolean('unscanned') ?? false,
    share: fields.string('share', parseChoice(['user', 'everyone'])) ?? 'user',
    rollbackProtection: fields.boolean('rollback-protection') ?? false,
  };
  checkGrounds(fields, rule.unsigned);
  checkFormats(fields, rule);
  checkAdding(fields, rule);
  checkUnscanned(fields, rule);
  return fields.sound ? rule : undefined;
}

/** Keys count, not their IDs: two IDs of one key can meet a threshold of one only. */
function checkThreshold(
  fields: Fields,
  threshold: number | undefined,
  signedBy: readonly string[] | undefined,
  { keys, keyrings }: Pick<RuleContext, 'keys' | 'keyrings'>,
): void {
  if (threshold === undefined) return; // 1, which is right for every list of keys
  const keyring = signedBy?.find((id) => keyrings.has(id));
  if (threshold > 1 && keyring !== undefined) {
    fields.fault(
      'threshold',
      `above 1, and nobody can tell a key of the keyring "${keyring}" from the others of signed-by; give the keyring a rule of its own`,
    );
    return;
  }
  // Where signed-by or a key that it names is at fault, the count is not known, and that fault is enough.
  if (fields.has('signed-by') && signedBy === undefined) return;
  const named = (signedBy ?? []).map((id) => keys.get(id)?.key.id);
  if (named.includes(undefined)) return;
  const distinct = new Set(named).size;
  if (threshold > distinct) {
    fields.fault('threshold', `${threshold} is above the number of distinct keys (${distinct})`);
  }
}

/** A rule lets nothing in for no reason. */
function checkGrounds(fields: Fields, unsigned: boolean): void {
  const given = ['signed-by', 'digests', 'locations'].filter((name) => fields.has(name));
  if (unsigned && given.length > 0) {
    fields.fault('unsigned', `stands alone, and the rule has ${given.join(' and ')} too`);
  } else if (!unsigned && given.length === 0 && fields.sound) {
    fields.fault(undefined, 'has none of signed-by, digests, locations and unsigned; a rule needs one');
  }
}

/**
 * A signature that states a digest and nothing else meets nothing that is asked of a name or a version. Nor does it say
 * which filesystem's parser its maker had in mind: then the rule has to say so, and not the client.
 */
function checkFormats(fields: Fields, { formats, fileSystems }: Rule): void {
  const bare = formats.find((format) => format !== 'dsse');
  if (bare === undefined) return;
  for (const name of ['images', 'rollback-protection']) {
    if (!fields.has(name)) continue;
    fields.fault(
      'formats',
      `"${bare}" states no name and no version, and the rule has ${name}; give "${bare}" a rule of its own`,
    );
  }
  if (formats.includes('dmverity-pkcs7') && fileSystems.join() !== 'ddi')
    fields.fault(
      'formats',
      '"dmverity-pkcs7" is for disk images, and signs a partition in them; the rule needs file-systems = ["ddi"]',
    );
  else if (fileSystems.length !== 1)
    fields.fault(
      'formats',
      `"${bare}" states no filesystem, and the rule takes ${fileSystems.length}; name just one`,
    );
}

function checkAdding(fields: Fields, { addObjects, addBytesPerHour }: Rule): void {
  if (addBytesPerHour === undefined) return; // none given, or it was reported
  if (addObjects.length === 0 && fields.sound)
    fields.fault('add-bytes-per-hour', 'bounds what add-objects lets in, and the rule has no add-objects');
}

/** What nobody looked for has to be kept from working, unless it may be there. */
function checkUnscanned(fields: Fields, { unscanned, devices, attributes }: Rule): void {
  if (!unscanned || devices || attributes.includes('nodev')) return;
  fields.fault(
    'unscanned',
    'lets in images that may hold device nodes, and attributes has no nodev, which would keep these from working; ' +
      'devices = true would say that they may work',
  );
}

function withRealPath({ realPath }: RuleContext): (text: string) => readonly string[] {
  return (text) => {
    const path = parseDirectory(text);
    return [path, realPath(path)];
  };
}

function unique<Value>(values: readonly Value[] | undefined): readonly Value[] | undefined {
  return values && [...new Set(values)];
}

/** Reports rules of one name, across all files: the audit and the remembered versions go by it. */
export function checkRuleNames(rules: readonly { readonly name: string; readonly fields: Fields }[]): void {
  const first = new Map<string, Fields>();
  for (const { name, fields } of rules) {
    const earlier = first.get(name);
    if (earlier === undefined) first.set(name, fields);
    else
      fields.fault('name', `"${name}" is the name of another rule (${earlier.place.file}:${earlier.line})`);
  }
}
