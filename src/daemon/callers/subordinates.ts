import { readFileSync, statSync } from 'node:fs';

/** A range of subordinate user IDs, both ends included, and whose it is. */
interface Range {
  readonly first: number;
  readonly last: number;
  readonly owner: number;
}

/** How long it counts what the files said. */
const checkedMilliseconds = 1000;

/** Where subordinate IDs and the names in it are told. */
interface Files {
  readonly subordinates: string;
  readonly users: string;
}

const systemFiles: Files = { subordinates: '/etc/subuid', users: '/etc/passwd' };

/** Whose subordinate user IDs are which, by /etc/subuid (subuid(5)), which is read anew when it changes. */
export class Subordinates {
  readonly #files: Files;
  #ranges: readonly Range[] = [];
  #identity = '';
  #checkedAt = Number.NEGATIVE_INFINITY;

  constructor(files: Files = systemFiles) {
    this.#files = files;
  }

  /** The user to whom `uid` is subordinate; undefined where it is to none. */
  ownerOf(uid: number): number | undefined {
    this.#refresh();
    return this.#ranges.find(({ first, last }) => first <= uid && uid <= last)?.owner;
  }

  #refresh(): void {
    const now = performance.now();
    if (now - this.#checkedAt < checkedMilliseconds) return;
    this.#checkedAt = now;
    const { subordinates, users } = this.#files;
    const identity = `${stateOf(subordinates)} ${stateOf(users)}`;
    if (identity === this.#identity) return;
    this.#identity = identity;
    this.#ranges = parseSubordinates(textOf(subordinates), textOf(users));
  }
}

/**
 * The ranges in the text of /etc/subuid, "owner:first:count" a line, the owner a name in the text of /etc/passwd or an ID.
 * Lines that say something else are passed over, as newuidmap(1) does.
 */
export function parseSubordinates(subordinates: string, users: string): readonly Range[] {
  const byName = new Map(
    users.split('\n').flatMap((line) => {
      const [name = '', , uid = ''] = line.split(':');
      return /^\d{1,10}$/.test(uid) ? [[name, Number(uid)] as const] : [];
    }),
  );
  return subordinates.split('\n').flatMap((line) => {
    const [, name = '', first = '', count = ''] = /^([^:]+):(\d{1,10}):(\d{1,10})$/.exec(line.trim()) ?? [];
    const owner = byName.get(name) ?? (/^\d{1,10}$/.test(name) ? Number(name) : undefined);
    // What is root's subordinate is for containers that root makes.
    if (owner === undefined || owner === 0) return [];
    return [{ first: Number(first), last: Number(first) + Number(count) - 1, owner }];
  });
}

function stateOf(path: string): string {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? 'none' : `${found.dev}:${found.ino}:${found.ctimeNs}`;
}

// Without the file nobody has subordinate IDs.
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
