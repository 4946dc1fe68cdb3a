import { generateKeyPair, parsePrivateKey, type PrivateKey } from '../../src/trust/private-key.ts';
import type { Digest } from '../../src/base/digest.ts';
import { digestFromBytes } from '../../src/base/digest.ts';
import type { Entry } from '../../src/composefs/tree.ts';
import { formatEnvelope } from '../../src/trust/dsse.ts';
import { addSignature, signStatement } from '../../src/trust/sign.ts';
import { signDigest } from '../../src/trust/ssh-signature.ts';
import type { Statement } from '../../src/trust/statement.ts';
import { digestOf, smallImage } from '../support/hosting.ts';

/** A key of the table: the private half, and what goes into keys.d. */
export interface TableKey {
  readonly key: PrivateKey;
  readonly pem: string;
}

/** Makes a key pair. */
export function tableKey(): TableKey {
  const { privatePem, publicPem } = generateKeyPair();
  return { key: parsePrivateKey(privatePem), pem: publicPem };
}

/** The keys that sign; the policies do not know `stranger`. */
export interface TableKeys {
  readonly site: TableKey;
  readonly vendor: TableKey;
  readonly stranger: TableKey;
}

const device: Entry = {
  ...{ type: 'block', rdev: 0x801, nlink: 1, mode: 0o600, uid: 0, gid: 0, xattrs: [] },
  mtime: { seconds: 0n, nanoseconds: 0 },
};

/** The images that are asked about, by name. */
export function tableImages(): Readonly<Record<ImageName, Uint8Array>> {
  const plain = smallImage({ hello: 'hello\n' });
  // Without composefs's header, which lies before the superblock, it is a plain EROFS image.
  const erofs = Uint8Array.from(plain).fill(0, 0, 32);
  const cut = plain.subarray(0, 1500);
  return { plain, erofs, cut, devices: smallImage({}, [['disk', device]]) };
}

export type ImageName = 'plain' | 'erofs' | 'cut' | 'devices';

/** Who asks: user ID, and the one group that goes with it. `daemon` is in the account files of every Debian. */
export const peers = [
  { name: 'root', uid: 0, gid: 0 },
  { name: 'daemon', uid: 1, gid: 1 },
  { name: 'somebody', uid: 1234, gid: 1234 },
] as const;

/** The signature files of each kind of evidence, for an image. */
export function tableEvidence(
  { site, vendor, stranger }: TableKeys,
  digest: Digest,
): Readonly<Record<string, readonly Uint8Array[]>> {
  const signed = (more: Partial<Statement>, ...[first, ...others]: readonly TableKey[]): Uint8Array => {
    const statement = { name: 'example/app', digest, fileSystem: 'composefs', ...more } as const;
    if (first === undefined) throw new RangeError('nobody signs');
    const begun = signStatement(statement, first.key);
    return formatEnvelope(others.reduce((all, { key }) => addSignature(all, statement, key), begun));
  };
  const other = digestFromBytes(new Uint8Array(32).fill(9));
  return {
    none: [],
    site: [signed({}, site)],
    vendor: [signed({}, vendor)],
    both: [signed({}, site, vendor)],
    'both apart': [signed({}, site), signed({}, vendor)],
    'both, saying different things': [signed({ version: 1 }, site), signed({ version: 2 }, vendor)],
    stranger: [signed({}, stranger)],
    'site and stranger': [signed({}, site, stranger)],
    expired: [signed({ expires: new Date('2020-01-01T00:00:00Z') }, site)],
    'not yet': [signed({ notBefore: new Date('2900-01-01T00:00:00Z') }, site)],
    malformed: [Buffer.from('{"payload":')],
    'malformed beside site': [Buffer.from('{}'), signed({}, site)],
    'of another image': [signed({ digest: other }, site)],
    'ssh by site': [signDigest(digest, site.key)],
    'ssh by vendor': [signDigest(digest, vendor.key)],
    'ssh by stranger': [signDigest(digest, stranger.key)],
    'ssh by site, dsse by vendor': [signDigest(digest, site.key), signed({}, vendor)],
    'version 3': [signed({ version: 3 }, site)],
    'version 7': [signed({ version: 7 }, site)],
    'another name': [signed({ name: 'other/app' }, site)],
    'erofs stated': [signed({ fileSystem: 'erofs' }, site)],
  };
}

/** What is asked beside the image, in the interface's words. */
export const requests = [
  {},
  { allowUnsigned: true },
  { fileSystem: 'composefs' },
  { fileSystem: 'erofs' },
  { fileSystem: 'squashfs' },
  { verity: 'require' },
  { verity: 'never' },
  { stores: ['system'] },
  { stores: ['plain'] },
  { stores: ['absent'] },
  { allowUnsigned: true, fileSystem: 'erofs' },
] as const;

export type TableRequest = (typeof requests)[number];

/** The newest version of example/app that the state folder remembers for the rule "versions". */
export const newest = { rule: 'versions', name: 'example/app', version: 5 };

/** The policies by name. `folder` holds the directories `store`, `trusted` and `images`. */
export function tablePolicies(folder: string, { vendor }: TableKeys): Readonly<Record<string, string>> {
  const known = `
[[keys]]
id = "site"
file = "site.pub"
[[keys]]
id = "vendor"
file = "vendor.pub"
[[stores]]
name = "system"
path = "${folder}/store"
verity = "require"
[[stores]]
name = "plain"
path = "${folder}/trusted"
verity = "trusted"
[[image-directories]]
path = "${folder}/images"
`;
  const rule = (name: string, body: string): string => `[[rules]]\nname = "${name}"\n${body}\n`;
  const digest = digestOf(tableImages().plain);
  const either = 'signed-by = ["site", "vendor"]\n';
  const policies = {
    'no rule': '',
    'one of two': rule('one', `${either}images = ["example/**"]`),
    'two of two': rule('two', `${either}threshold = 2`),
    'a revoked key': `[[revoked]]\nkey = "${vendor.key.publicKey.id}"\n${rule('one', either)}`,
    'a revoked digest': `[[revoked]]\ndigest = "${digest}"\n${rule('one', either)}${rule('all', 'unsigned = true')}`,
    versions: rule('versions', `${either}rollback-protection = true`),
    'unsigned for root': rule('root', 'users = ["root"]\nunsigned = true\nverity = "never"'),
    'unsigned for all, wide': rule(
      'all',
      'unsigned = true\nfile-systems = ["composefs", "erofs", "squashfs"]',
    ),
    unscanned: rule('all', 'unsigned = true\nfile-systems = ["composefs", "squashfs"]\nunscanned = true'),
    pinned: rule('pinned', `digests = ["${digest}"]\nusers = ["1-1000"]`),
    'pinned and signed': rule('pinned', `digests = ["${digest}"]\nsigned-by = ["vendor"]`),
    installed: rule('installed', `locations = ["${folder}/images"]`),
    'installed and signed': rule('installed', `locations = ["${folder}/images"]\nsigned-by = ["site"]`),
    ssh: rule('ssh', `${either}formats = ["ssh"]`),
    'two in any format': rule('any', `${either}threshold = 2\nformats = ["dsse", "ssh"]`),
    'for a group': rule('group', `${either}groups = ["1"]\ndevices = true`),
    'erofs too': rule('erofs', `${either}file-systems = ["composefs", "erofs"]\ndevices = true`),
    'a trusted store': rule('lax', `${either}stores = ["plain", "system"]\nverity = "if-present"`),
    'a trusted store, required': rule('strict', `${either}stores = ["plain", "system"]`),
    'the first decides':
      rule('first', 'signed-by = ["site"]\nrollback-protection = true') + rule('second', either),
    'passed on': rule('daemon', `${either}users = ["1"]`) + rule('last', 'signed-by = ["vendor"]'),
  };
  const limited = known
    .replace('id = "site"\n', 'id = "site"\nnames = ["other/**"]\n')
    .replace('id = "vendor"\n', 'id = "vendor"\nnot-after = 2020-01-01T00:00:00Z\n');
  return {
    ...Object.fromEntries(Object.entries(policies).map(([name, text]) => [name, known + text])),
    'keys with limits': limited + rule('one', either),
    'one key, two ids': `${known}[[keys]]\nid = "again"\nfile = "site.pub"\n${rule('ids', 'signed-by = ["site", "again", "vendor"]\nthreshold = 2')}`,
  };
}
