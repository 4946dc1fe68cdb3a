/** The users and groups of this machine, by name. */
export interface Accounts {
  /** The user's ID, or undefined where there is no such user. */
  user(name: string): number | undefined;
  /** The group's ID, or undefined where there is no such group. */
  group(name: string): number | undefined;
}

/** The greatest user or group ID; 2^32 - 1 means "no ID" to the kernel. */
export const idMax = 4_294_967_294;

/**
 * The accounts that the texts of /etc/passwd and /etc/group list (passwd(5), group(5)). "root" is user and group 0
 * even where they do not say so.
 */
export function parseAccounts(passwd: string, group: string): Accounts {
  const users = parseColumns(passwd);
  const groups = parseColumns(group);
  return { user: (name) => users.get(name), group: (name) => groups.get(name) };
}

/** Both files have the name in the first column and the ID in the third. Of two lines of one name, the first holds. */
function parseColumns(text: string): ReadonlyMap<string, number> {
  const ids = new Map([['root', 0]]);
  for (const line of text.split('\n')) {
    const [name = '', , id = ''] = line.split(':');
    if (name === '' || ids.has(name) || !/^\d{1,10}$/.test(id) || Number(id) > idMax) continue;
    ids.set(name, Number(id));
  }
  return ids;
}
