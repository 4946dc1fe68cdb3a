import { FieldInvalid } from './fault.ts';
import type { Fields } from './fields.ts';
import { readLabel, type Names } from './parse-tables.ts';
import type { PolicyKey, PolicyKeyring } from './policy.ts';

/** Of [[keys]], those that name a keyring of the kernel's, and those that are keys. */
export function separateKeyrings(
  tables: readonly Fields[],
): readonly [keyrings: readonly Fields[], keys: readonly Fields[]] {
  const isKeyring = (fields: Fields): boolean => fields.has('keyring');
  return [tables.filter(isKeyring), tables.filter((fields) => !isKeyring(fields))];
}

/** What a key can have and a keyring cannot, and why. */
const notForKeyrings: Readonly<Record<string, string>> = {
  file: 'the table has keyring as well; give the file an id of its own',
  'public-key': 'the table has keyring as well; give the key an id of its own',
  authority: 'keys in a keyring count by their own signatures, and vouch for no others',
  names: 'signatures by the keys in a keyring state no name',
};

/** Collects the [[keys]] with a keyring. */
export function parseKeyrings(
  tables: readonly Fields[],
  names: Names,
  keys: ReadonlyMap<string, PolicyKey>,
): Map<string, PolicyKeyring> {
  const keyrings = new Map<string, PolicyKeyring>();
  for (const fields of tables) {
    const id = readLabel(fields, 'id', names);
    const keyring = fields.string('keyring', parseKeyringName);
    for (const [name, why] of Object.entries(notForKeyrings)) if (fields.has(name)) fields.fault(name, why);
    const notBefore = fields.time('not-before');
    const notAfter = fields.time('not-after');
    if (notBefore !== undefined && notAfter !== undefined && notAfter < notBefore)
      fields.fault('not-after', 'lies before not-before');
    if (!fields.sound || id === undefined || keyring === undefined) continue;
    // Which of two definitions is meant, nobody can say: keys may be defined twice while one is renewed, keyrings need it not.
    if (keys.has(id) || keyrings.has(id)) fields.fault('id', `"${id}" is already the ID of another key`);
    else keyrings.set(id, { id, keyring, notBefore, notAfter });
  }
  return keyrings;
}

function parseKeyringName(text: string): string {
  if (/^\.[a-z0-9_-]{1,63}$/.test(text)) return text;
  throw new FieldInvalid(
    'not the name of a keyring that only the kernel makes, such as .fs-verity: one without a dot in front, every process with ' +
      'user ID 0 can make, in a container as well',
  );
}
