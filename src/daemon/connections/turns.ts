import { FairSplit } from '../callers/fair-split.ts';
import type { Owner } from '../callers/owner.ts';

interface Line {
  readonly owner: Owner;
  running: number;
  readonly waiting: (() => void)[];
}

/**
 * Who may start now. A turn begins at once where its user and the daemon have room, else it waits: each user's
 * in order, the users in a ring, so that one user's queue never delays the first turn of another by more than the
 * turns under way. The users of one group (owner.ts) never take the last turn that is free, unless it is their first.
 */
export class Turns {
  readonly #perUser: number;
  readonly #total: number;
  readonly #lines = new Map<number, Line>();
  readonly #running = new FairSplit();

  /** At most `perUser` turns of one user and `total` of all run at a time. */
  constructor(perUser: number, total: number) {
    this.#perUser = perUser;
    this.#total = total;
  }

  /** How many turns are under way. */
  get running(): number {
    return this.#running.total;
  }

  /** Calls `begin` now or later, in order. Whoever began calls `end` with the same owner exactly once. */
  enter(owner: Owner, begin: () => void): void {
    const line = this.#line(owner);
    if (line.waiting.length === 0 && this.#mayRun(line)) {
      this.#count(line, 1);
      begin();
      return;
    }
    line.waiting.push(begin);
  }

  /** Takes back a `begin` that has not been called yet; false if it is not waiting. */
  leave({ user }: Owner, begin: () => void): boolean {
    const line = this.#lines.get(user);
    const index = line?.waiting.indexOf(begin) ?? -1;
    if (line === undefined || index < 0) return false;
    line.waiting.splice(index, 1);
    this.#forget(user, line);
    return true;
  }

  /** Ends one turn of `user`, and begins those that have room now. */
  end(owner: Owner): void {
    const line = this.#line(owner);
    this.#count(line, -1);
    this.#forget(owner.user, line);
    this.#next();
  }

  #count(line: Line, turns: 1 | -1): void {
    line.running += turns;
    if (turns === 1) this.#running.take(line.owner, 1);
    else this.#running.give(line.owner, 1);
  }

  #line(owner: Owner): Line {
    let line = this.#lines.get(owner.user);
    if (line === undefined) {
      line = { owner, running: 0, waiting: [] };
      this.#lines.set(owner.user, line);
    }
    return line;
  }

  #mayRun(line: Line): boolean {
    return line.running < this.#perUser && this.#running.mayTake(line.owner, 1, this.#total);
  }

  #next(): void {
    for (const [user, line] of this.#lines) {
      if (!this.#mayRun(line)) continue;
      const begin = line.waiting.shift();
      if (begin === undefined) continue;
      // To the end of the ring: whoever waits as well comes before this user's next turn.
      this.#lines.delete(user);
      this.#lines.set(user, line);
      this.#count(line, 1);
      // In a microtask: turns that end at once would otherwise nest as deep as the queue is long.
      queueMicrotask(begin);
    }
  }

  #forget(user: number, line: Line): void {
    if (line.running === 0 && line.waiting.length === 0) this.#lines.delete(user);
  }
}
