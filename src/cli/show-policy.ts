import type { LoadedPolicy } from '../policy/load.ts';
import type { PolicyKey, PolicyKeyring, Rule, UserMatch } from '../policy/policy.ts';
import { formatTime } from '../trust/time.ts';

type Plain = Readonly<Record<string, unknown>>;

/** A policy as plain data, named as in the policy's files. */
export function policyJson({ policy, files, warnings }: LoadedPolicy): Plain {
  return {
    digest: policy.digest,
    files,
    warnings,
    clock: { 'skew-seconds': policy.clockSkew / 1000 },
    keys: [...[...policy.keys.values()].map(keyFields), ...[...policy.keyrings.values()].map(keyringFields)],
    revoked: [
      ...[...policy.revokedKeys].map((key) => ({ key })),
      ...[...policy.revokedDigests].map((digest) => ({ digest })),
    ],
    stores: [...policy.stores.values()],
    'image-directories': policy.imageDirectories,
    rules: policy.rules.map((rule) => ({
      name: rule.name,
      file: rule.file,
      line: rule.line,
      ...ruleFields(rule),
    })),
  };
}

/** A policy in lines for people. */
export function policyLines({ policy, files }: LoadedPolicy): string[] {
  const keys = [...policy.keys.values()].flatMap((key) => section(`key "${key.id}"`, keyFields(key), ['id']));
  const keyrings = [...policy.keyrings.values()].flatMap((keyring) =>
    section(`keyring "${keyring.id}"`, keyringFields(keyring), ['id']),
  );
  const revoked = [...policy.revokedKeys, ...policy.revokedDigests].map((each) => `revoked ${each}`);
  const stores = [...policy.stores.values()].map(
    ({ name, path, verity }) => `store "${name}" ${path} (verity ${verity})`,
  );
  const directories = policy.imageDirectories.map((path) => `images ${path}`);
  const rules = policy.rules.flatMap((rule) =>
    section(`rule "${rule.name}" (${rule.file}:${rule.line})`, ruleFields(rule)),
  );
  return [
    `policy ${policy.digest}`,
    ...files.map((file) => `file ${file}`),
    ...(policy.clockSkew === 0 ? [] : [`clock wrong by up to ${policy.clockSkew / 1000} s`]),
    ...keys,
    ...keyrings,
    ...revoked,
    ...stores,
    ...directories,
    ...rules,
  ];
}

function keyFields({ id, key, notBefore, notAfter, names, certificates, authority }: PolicyKey): Plain {
  return {
    id,
    'key-id': key.id,
    algorithm: key.algorithm,
    certificates:
      certificates.length === 0
        ? undefined
        : certificates.map(
            (each) => `${each.serial} (${formatTime(each.notBefore)} to ${formatTime(each.notAfter)})`,
          ),
    authority: authority || undefined,
    'not-before': notBefore && formatTime(notBefore),
    'not-after': notAfter && formatTime(notAfter),
    // Each definition of the key may bring a list, and all of them hold.
    names: names.length === 0 ? undefined : names,
  };
}

function keyringFields({ id, keyring, notBefore, notAfter }: PolicyKeyring): Plain {
  return {
    id,
    keyring,
    'not-before': notBefore && formatTime(notBefore),
    'not-after': notAfter && formatTime(notAfter),
  };
}

function ruleFields(rule: Rule): Plain {
  return {
    users: rule.users?.map(formatUsers),
    groups: rule.groups,
    images: rule.images,
    'signed-by': rule.signedBy,
    threshold: rule.signedBy && rule.threshold,
    formats: rule.signedBy && rule.formats,
    digests: rule.digests && [...rule.digests],
    locations: rule.locations,
    unsigned: rule.unsigned,
    'file-systems': rule.fileSystems,
    stores: rule.stores,
    'client-stores': rule.clientStores,
    'add-objects': rule.addObjects,
    'add-bytes-per-hour': rule.addBytesPerHour,
    verity: rule.verity === 'ifPresent' ? 'if-present' : rule.verity,
    attributes: rule.attributes,
    devices: rule.devices,
    unscanned: rule.unscanned,
    share: rule.share,
    'rollback-protection': rule.rollbackProtection,
  };
}

function formatUsers(match: UserMatch): string {
  if (match.kind === 'everybody') return '*';
  return match.first === match.last ? String(match.first) : `${match.first}-${match.last}`;
}

function section(title: string, fields: Plain, without: readonly string[] = []): string[] {
  const rows = Object.entries(fields).filter(
    ([name, value]) => value !== undefined && !without.includes(name),
  );
  return [title, ...rows.map(([name, value]) => `  ${name.padEnd(19)} ${formatValue(value)}`)];
}

function formatValue(value: unknown): string {
  if (!Array.isArray(value)) return String(value);
  if (value.length === 0) return 'none';
  return value.map((each) => (Array.isArray(each) ? `(${each.join(' or ')})` : String(each))).join(', ');
}
