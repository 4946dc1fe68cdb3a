import { readFileSync, statSync } from 'node:fs';
import { parseAccounts } from '../policy/accounts.ts';
import type { CallerIdentity } from '../policy/question.ts';
import { CommandError } from './command-error.ts';

/** The inode of the initial user namespace (USER_NS_INIT_INO in linux/nsfs.h). */
const initialUserNamespaceInode = 0xeffffffd;

/** Whether this process is in another user namespace than the initial one. */
export function insideUserNamespace(): boolean {
  return statSync('/proc/self/ns/user').ino !== initialUserNamespaceInode;
}

/** The user who runs this program, as the service would see them. */
export function thisCaller(): CallerIdentity {
  const uid = process.geteuid?.() ?? 0;
  const gids = process.getgroups?.() ?? [];
  if (!insideUserNamespace()) return { uid, root: uid === 0, gids };
  // Inside a user namespace the caller counts as its creator, to whom as a rule its root is mapped.
  return { uid: outsideUid(readFileSync('/proc/self/uid_map', 'utf8')), root: false, gids: [] };
}

/**
 * The user of that name or ID, with the groups that the machine's account files give them; 0 is root of the
 * initial namespace. Throws CommandError.
 */
export function callerOfUser(user: string): CallerIdentity {
  const passwd = readIfThere('/etc/passwd');
  const group = readIfThere('/etc/group');
  const uid = /^\d{1,10}$/.test(user) ? Number(user) : parseAccounts(passwd, group).user(user);
  if (uid === undefined) throw new CommandError(`--user ${user}: there is no such user`);
  return { uid, root: uid === 0, gids: groupsOfUser(uid, passwd, group) };
}

/** The groups of a user by the texts of /etc/passwd and /etc/group: the primary one, and those that list the name. */
export function groupsOfUser(uid: number, passwd: string, group: string): number[] {
  const account = rows(passwd).find(([, , id]) => id === String(uid));
  if (account === undefined) return [];
  const [name, , , primary] = account;
  const listed = rows(group).filter(
    ([, , , members]) => name !== undefined && members?.split(',').includes(name),
  );
  return [...new Set([Number(primary), ...listed.map(([, , id]) => Number(id))])].filter(
    Number.isSafeInteger,
  );
}

/** Which user of the namespace above root of this one is, by the text of uid_map (user_namespaces(7)). */
function outsideUid(map: string): number {
  const lines = map.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  return lines.find(([inside]) => inside === 0)?.[1] ?? lines[0]?.[1] ?? 65534;
}

function rows(text: string): string[][] {
  return text.split('\n').map((line) => line.split(':'));
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
