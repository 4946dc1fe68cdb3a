import { describe, expect, test } from 'vitest';
import { generateKeyPair } from '../../../src/trust/private-key.ts';
import { faultsOf, makeKey, policyOf } from './policy-of.ts';

const one = makeKey('one');
const two = makeKey('two');
const zeros = `sha256:${'0'.repeat(64)}`;

const pinned = (name: string, more = ''): string =>
  `[[rules]]\nname = "${name}"\ndigests = ["${zeros}"]\n${more}\n`;

describe('a policy', () => {
  test('of no files is empty', () => {
    expect(policyOf({}).rules).toEqual([]);
  });

  test('fills in the defaults of the contract', () => {
    const policy = policyOf(`${one.toml}[[rules]]\nname = "r"\nsigned-by = ["one"]\n`);
    expect(policy.rules[0]).toEqual({
      name: 'r',
      file: '50-test.toml',
      line: 5,
      users: undefined,
      groups: undefined,
      images: undefined,
      digests: undefined,
      locations: undefined,
      signedBy: ['one'],
      threshold: 1,
      formats: ['dsse'],
      unsigned: false,
      fileSystems: ['composefs'],
      stores: [],
      clientStores: false,
      addObjects: [],
      verity: 'require',
      attributes: ['ro', 'nosuid', 'nodev'],
      devices: false,
      unscanned: false,
      share: 'user',
      rollbackProtection: false,
    });
  });

  test('resolves users and groups by name, ID and range', () => {
    const policy = policyOf(
      pinned('r', 'users = ["alice", "0", "1000-1999", "*"]\ngroups = ["appliance", "7"]'),
    );
    expect(policy.rules[0]?.users).toEqual([
      { kind: 'ids', first: 1000, last: 1000 },
      { kind: 'ids', first: 0, last: 0 },
      { kind: 'ids', first: 1000, last: 1999 },
      { kind: 'everybody' },
    ]);
    expect(policy.rules[0]?.groups).toEqual([500, 7]);
  });

  test('lets rules name keys and stores of other files', () => {
    const policy = policyOf({
      '10.toml': '[[rules]]\nname = "r"\nsigned-by = ["one"]\nstores = ["s"]\n',
      '20.toml': `${one.toml}[[stores]]\nname = "s"\npath = "/s"\nverity = "require"\n`,
    });
    expect(policy.stores.get('s')).toEqual({ name: 's', path: '/s', verity: 'require' });
  });

  test('takes the same ID with the same key twice, within the limits of both', () => {
    const again = 'not-after = 2027-01-01T00:00:00Z\nnames = ["a/**"]\n';
    const policy = policyOf({
      '10.toml': `${one.toml}not-after = 2028-01-01T00:00:00Z\n`,
      '20.toml': one.toml + again,
    });
    expect(policy.keys.get('one')?.notAfter).toEqual(new Date('2027-01-01T00:00:00Z'));
    expect(policy.keys.get('one')?.names).toEqual([['a/**']]);
  });

  test('adds up what is revoked', () => {
    const key = (digit: string): string => `[[revoked]]\nkey = "${digit.repeat(64)}"\n`;
    const policy = policyOf({
      '10.toml': key('a'),
      '20.toml': `${key('b')}[[revoked]]\ndigest = "${zeros}"\n`,
    });
    expect([...policy.revokedKeys]).toEqual(['a'.repeat(64), 'b'.repeat(64)]);
    expect([...policy.revokedDigests]).toEqual([zeros]);
  });

  test('reads key files, and its digest changes with their bytes', () => {
    const { publicPem } = generateKeyPair();
    const text = '[[keys]]\nid = "k"\nfile = "k.pub"\n';
    const a = policyOf(text, { 'k.pub': publicPem });
    const b = policyOf(text, { 'k.pub': `${publicPem}\n` });
    expect(a.keys.get('k')?.key.algorithm).toBe('ed25519');
    expect(a.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(b.digest).not.toBe(a.digest);
    expect(policyOf(`${text}#`, { 'k.pub': publicPem }).digest).not.toBe(a.digest);
  });

  test('takes the empty add-objects that the contract writes', () => {
    expect(policyOf(pinned('r', 'add-objects = []')).rules[0]?.addObjects).toEqual([]);
  });
});

describe('faults', () => {
  const cases: readonly (readonly [string, string, string | readonly string[]])[] = [
    ['a syntax error', 'x = = 1\n', '50-test.toml:1: not TOML: invalid value'],
    ['a table of another name', '[[rule]]\n', '50-test.toml:1: unknown table "rule"; did you mean "rules"?'],
    [
      'a table in single brackets',
      '[rules]\nname = "r"\n',
      '50-test.toml:1: rules: begin each entry with [[rules]]',
    ],
    [
      'a clock in double brackets',
      '[[clock]]\nskew-seconds = 1\n',
      '50-test.toml:1: clock: begin it with [clock]',
    ],
    ['a clock that says nothing', '[clock]\n', '50-test.toml:1: clock.skew-seconds: missing'],
    ['a skew of days', '[clock]\nskew-seconds = 86401\n', 'clock.skew-seconds: 86401 is above 86400'],
    ['a skew below zero', '[clock]\nskew-seconds = -1\n', 'clock.skew-seconds: -1 is below 0'],
    ['a field of the file', '\nversion = 1\n', '50-test.toml:2: unknown field "version"; known are'],
    [
      'an unknown field',
      pinned('r', 'user = ["*"]'),
      '50-test.toml:4: rules[0].user: unknown field; did you mean "users"?',
    ],
    ['no name', `[[rules]]\ndigests = ["${zeros}"]`, '50-test.toml:1: rules[0].name: missing'],
    [
      'no grounds',
      '[[rules]]\nname = "r"\nusers = ["*"]',
      '50-test.toml:1: rules[0]: has none of signed-by, digests,',
    ],
    [
      'unsigned beside digests',
      pinned('r', 'unsigned = true'),
      '50-test.toml:4: rules[0].unsigned: stands alone',
    ],
    ['an empty list', pinned('r', 'users = []'), '50-test.toml:4: rules[0].users: an empty list'],
    ['an empty list of stores', pinned('r', 'stores = []'), '50-test.toml:4: rules[0].stores: an empty list'],
    [
      'two rules of one name',
      pinned('r') + pinned('r'),
      '50-test.toml:6: rules[1].name: "r" is the name of another rule (50-test.toml:1)',
    ],
    [
      'an unknown user',
      pinned('r', 'users = [\n  "alice",\n  "carol",\n]'),
      '50-test.toml:6: rules[0].users[1]: no user "carol"',
    ],
    ['an unknown group', pinned('r', 'groups = ["none"]'), 'rules[0].groups[0]: no group "none"'],
    [
      'a user as a number',
      pinned('r', 'users = [1000]'),
      'rules[0].users[0]: the number 1000, where a string is wanted',
    ],
    [
      'a range backwards',
      pinned('r', 'users = ["9-1"]'),
      'rules[0].users[0]: the range "9-1" ends before it begins',
    ],
    ['an ID too great', pinned('r', 'users = ["4294967295"]'), 'above the greatest ID'],
    [
      'a threshold of 0',
      `${one.toml}[[rules]]\nname = "r"\nsigned-by = ["one"]\nthreshold = 0`,
      'rules[0].threshold: 0 is below 1',
    ],
    [
      'a threshold too high',
      `${one.toml}${two.toml}[[rules]]\nname = "r"\nsigned-by = ["one", "two"]\nthreshold = 3`,
      '50-test.toml:12: rules[0].threshold: 3 is above the number of distinct keys (2)',
    ],
    [
      'a threshold above the keys that two IDs share',
      `${one.toml}${one.toml.replace('"one"', '"uno"')}[[rules]]\nname = "r"\nsigned-by = ["one", "uno"]\nthreshold = 2`,
      'rules[0].threshold: 2 is above the number of distinct keys (1)',
    ],
    [
      'a threshold of nobody',
      pinned('r', 'threshold = 1'),
      'rules[0].threshold: 1 is above the number of distinct keys (0)',
    ],
    [
      'an unknown key',
      `${one.toml}[[rules]]\nname = "r"\nsigned-by = ["ome"]`,
      'rules[0].signed-by[0]: no key "ome" is defined; did you mean "one"?',
    ],
    ['an unknown store', pinned('r', 'stores = ["s"]'), 'rules[0].stores[0]: no store "s" is defined'],
    [
      'another key of the same ID',
      one.toml + two.toml.replace('"two"', '"one"'),
      '50-test.toml:6: keys[1].id: "one" is already the ID of another key',
    ],
    [
      'a key of no kind',
      '[[keys]]\nid = "k"\npublic-key = "AAAA"',
      '50-test.toml:3: keys[0].public-key: the text is no usable key',
    ],
    [
      'a key without a source',
      '[[keys]]\nid = "k"',
      '50-test.toml:1: keys[0]: has none of file, public-key and keyring',
    ],
    ['a key file elsewhere', '[[keys]]\nid = "k"\nfile = "../k"', 'keys[0].file: not the plain name'],
    ['a key file that is missing', '[[keys]]\nid = "k"\nfile = "k"', 'keys[0].file: keys.d/k: no such file'],
    [
      'a time without an offset',
      `${one.toml}not-after = 2026-01-01`,
      'keys[0].not-after: the date 2026-01-01, where a moment is wanted',
    ],
    ['a time in quotes', `${one.toml}not-after = "2026-01-01T00:00:00Z"`, 'keys[0].not-after: the string'],
    [
      'a key that ends first',
      `${one.toml}not-before = 2027-01-01T00:00:00Z\nnot-after = 2026-01-01T00:00:00Z`,
      'keys[0].not-after: lies before not-before',
    ],
    [
      'another signature format',
      pinned('r', 'formats = ["pkcs7"]'),
      'rules[0].formats[0]: "pkcs7" is not known; known are dsse, ssh, fsverity-pkcs7, dmverity-pkcs7',
    ],
    [
      'a format without versions where they are asked for',
      pinned('r', 'formats = ["ssh"]\nrollback-protection = true'),
      'rules[0].formats: "ssh" states no name and no version, and the rule has rollback-protection; give "ssh" a rule of its own',
    ],
    [
      'a format without names where they are asked for',
      pinned('r', 'formats = ["dsse", "ssh"]\nimages = ["a"]'),
      'rules[0].formats: "ssh" states no name and no version, and the rule has images; give "ssh" a rule of its own',
    ],
    [
      'a format without filesystem where there are two',
      pinned('r', 'formats = ["ssh"]\nfile-systems = ["erofs", "ext4"]'),
      'rules[0].formats: "ssh" states no filesystem, and the rule takes 2; name just one',
    ],
    ['a format of no kind', pinned('r', 'formats = ["pgp"]'), 'rules[0].formats[0]: "pgp" is not known'],
    [
      'a filesystem of no kind',
      pinned('r', 'file-systems = ["erof"]'),
      'rules[0].file-systems[0]: "erof" is not known; did you mean "erofs"?',
    ],
    [
      'an attribute of no kind',
      pinned('r', 'attributes = ["rw"]'),
      'rules[0].attributes[0]: "rw" is not known',
    ],
    [
      'a level of no kind',
      pinned('r', 'verity = "ifPresent"'),
      'rules[0].verity: "ifPresent" is not known; did you mean "if-present"?',
    ],
    ['a share of no kind', pinned('r', 'share = "all"'), 'rules[0].share: "all" is not known'],
    [
      'a boolean in quotes',
      pinned('r', 'devices = "true"'),
      'rules[0].devices: the string "true", where true or false is wanted',
    ],
    [
      'a fraction',
      pinned('r', 'threshold = 1.5'),
      'rules[0].threshold: the number 1.5, where a whole number is wanted',
    ],
    ['a pattern of no name', pinned('r', 'images = ["a//b"]'), 'rules[0].images[0]: "a//b" is no pattern'],
    [
      'a digest too short',
      '[[rules]]\nname = "r"\ndigests = ["sha256:00"]',
      'rules[0].digests[0]: not "sha256:" and 64',
    ],
    [
      'a relative location',
      '[[rules]]\nname = "r"\nlocations = ["usr/lib"]',
      'rules[0].locations[0]: "usr/lib" is no absolute path',
    ],
    [
      'a location with dots',
      '[[rules]]\nname = "r"\nlocations = ["/usr/../etc"]',
      'is not in its plain form, "/etc"',
    ],
    [
      'a store without a level',
      '[[stores]]\nname = "s"\npath = "/s"',
      '50-test.toml:1: stores[0].verity: missing',
    ],
    [
      'a store of another level',
      '[[stores]]\nname = "s"\npath = "/s"\nverity = "none"',
      'stores[0].verity: "none" is not known',
    ],
    [
      'two stores of one name',
      '[[stores]]\nname = "s"\npath = "/s"\nverity = "require"\n[[stores]]\nname = "s"\npath = "/t"\nverity = "require"',
      '50-test.toml:6: stores[1].name: "s" is already the name',
    ],
    [
      'an image directory without a path',
      '[[image-directories]]',
      '50-test.toml:1: image-directories[0].path: missing',
    ],
    [
      'revoking both',
      `[[revoked]]\nkey = "${'a'.repeat(64)}"\ndigest = "${zeros}"`,
      '50-test.toml:1: revoked[0]: is to have one of key and digest',
    ],
    ['revoking nothing', '[[revoked]]', 'revoked[0]: is to have one of key and digest'],
    [
      'a revoked key by the fingerprint of another tool',
      `[[revoked]]\nkey = "SHA256:${'A'.repeat(43)}"`,
      "revoked[0].key: a fingerprint of OpenSSH's, and not the 64 lower-case hexadecimal digits of a key ID",
    ],
    ['a revoked key by name', '[[revoked]]\nkey = "one"', 'revoked[0].key: not the 64 lower-case'],
    [
      'a name with a line end',
      '[[rules]]\nname = "a\\nb"\nunsigned = true',
      'rules[0].name: holds a control character',
    ],
    [
      'a member of Object.prototype',
      '[[rules]]\nname = "r"\nunsigned = true\nconstructor = 1\n',
      'rules[0].constructor: unknown field',
    ],
  ];

  test.each(cases)('%s', (_what, text, expected) => {
    const faults = faultsOf(text);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(expected);
  });

  test('one bad key is one fault, however many rules name it', () => {
    const rule = (name: string): string =>
      `[[rules]]\nname = "${name}"\nsigned-by = ["one", "bad"]\nthreshold = 2\n`;
    const faults = faultsOf(`${one.toml}[[keys]]\nid = "bad"\npublic-key = "AAAA"\n${rule('a')}${rule('b')}`);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/^50-test\.toml:7: keys\[1\]\.public-key: /);
  });

  test('a file that is no TOML does not make rules of others name unknown keys', () => {
    const faults = faultsOf({ '10.toml': 'x', '20.toml': '[[rules]]\nname = "r"\nsigned-by = ["k"]\n' });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/^10\.toml:1: not TOML/);
  });

  test('a key under a misspelt table does not make its rule name an unknown key', () => {
    const faults = faultsOf(`[[key]]\nid = "k"\n[[rules]]\nname = "r"\nsigned-by = ["k"]\n`);
    expect(faults).toEqual(['50-test.toml:1: unknown table "key"; did you mean "keys"?']);
  });

  test('are all told at once, by file and line', () => {
    const faults = faultsOf({
      '20.toml': pinned('r', 'users = ["carol"]\nverity = "none"'),
      '10.toml': '[[rule]]\n[[stores]]\n',
    });
    expect(faults.map((fault) => fault.split(': ')[0])).toEqual([
      '10.toml:1',
      '10.toml:2',
      '10.toml:2',
      '10.toml:2',
      '20.toml:4',
      '20.toml:5',
    ]);
  });

  test('more rules than are allowed', () => {
    const faults = faultsOf(pinned('r').repeat(1025));
    expect(faults).toEqual(['50-test.toml:1: rules: 1025 are more than 1024']);
  });
});
