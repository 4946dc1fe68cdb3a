import { limits, type LimitName } from './limits.ts';

/** A limit that was met, with its value. */
export interface LimitMet {
  readonly limit: LimitName;
  readonly value: number;
}

/** Counts what users hold of one thing, against a limit for each user and one for all together. */
export class Shares {
  readonly #perUser: LimitName;
  readonly #all: LimitName;
  readonly #held = new Map<number, number>();
  #total = 0;

  constructor(perUser: LimitName, all: LimitName) {
    this.#perUser = perUser;
    this.#all = all;
  }

  /** Gives `user` `count` more, or answers the limit that stands against it; then nothing is taken. */
  take(user: number, count: number): LimitMet | undefined {
    const held = (this.#held.get(user) ?? 0) + count;
    if (held > limits[this.#perUser]) return { limit: this.#perUser, value: limits[this.#perUser] };
    if (this.#total + count > limits[this.#all]) return { limit: this.#all, value: limits[this.#all] };
    this.#held.set(user, held);
    this.#total += count;
    return undefined;
  }

  /** Takes `count` back from `user`. */
  give(user: number, count: number): void {
    const held = (this.#held.get(user) ?? 0) - count;
    if (held < 0) throw new RangeError(`user ${user} gives back more than was taken`);
    if (held === 0) this.#held.delete(user);
    else this.#held.set(user, held);
    this.#total -= count;
  }

  /** How much all users hold together. */
  get total(): number {
    return this.#total;
  }
}
