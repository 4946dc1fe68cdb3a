interface Line {
  running: number;
  readonly waiting: (() => void)[];
}

/**
 * Who may start now. A turn begins at once where its user and the daemon have room, else it waits: each user's
 * in order, the users in a ring, so that one user's queue never delays the first turn of another by more than the
 * turns under way.
 */
export class Turns {
  readonly #perUser: number;
  readonly #total: number;
  readonly #lines = new Map<number, Line>();
  #running = 0;

  /** At most `perUser` turns of one user and `total` of all run at a time. */
  constructor(perUser: number, total: number) {
    this.#perUser = perUser;
    this.#total = total;
  }

  /** How many turns are under way. */
  get running(): number {
    return this.#running;
  }

  /** Calls `begin` now or later, in order. Whoever began calls `end` with the same user exactly once. */
  enter(user: number, begin: () => void): void {
    const line = this.#line(user);
    if (line.waiting.length === 0 && this.#mayRun(line)) {
      line.running += 1;
      this.#running += 1;
      begin();
      return;
    }
    line.waiting.push(begin);
  }

  /** Takes back a `begin` that has not been called yet; false if it is not waiting. */
  leave(user: number, begin: () => void): boolean {
    const line = this.#lines.get(user);
    const index = line?.waiting.indexOf(begin) ?? -1;
    if (line === undefined || index < 0) return false;
    line.waiting.splice(index, 1);
    this.#forget(user, line);
    return true;
  }

  /** Ends one turn of `user`, and begins the next that has room. */
  end(user: number): void {
    const line = this.#line(user);
    line.running -= 1;
    this.#running -= 1;
    this.#forget(user, line);
    this.#next();
  }

  #line(user: number): Line {
    let line = this.#lines.get(user);
    if (line === undefined) {
      line = { running: 0, waiting: [] };
      this.#lines.set(user, line);
    }
    return line;
  }

  #mayRun(line: Line): boolean {
    return this.#running < this.#total && line.running < this.#perUser;
  }

  #next(): void {
    for (const [user, line] of this.#lines) {
      if (!this.#mayRun(line)) continue;
      const begin = line.waiting.shift();
      if (begin === undefined) continue;
      // To the end of the ring: whoever waits as well comes before this user's next turn.
      this.#lines.delete(user);
      this.#lines.set(user, line);
      line.running += 1;
      this.#running += 1;
      // In a microtask: turns that end at once would otherwise nest as deep as the queue is long.
      queueMicrotask(begin);
      return;
    }
  }

  #forget(user: number, line: Line): void {
    if (line.running === 0 && line.waiting.length === 0) this.#lines.delete(user);
  }
}
