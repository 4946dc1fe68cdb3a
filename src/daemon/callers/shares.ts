import { FairSplit } from './fair-split.ts';
import { limits, type LimitName } from './limits.ts';
import type { Owner } from './owner.ts';

/** A limit that was met, with its value. */
export interface LimitMet {
  readonly limit: LimitName;
  readonly value: number;
}

/** Counts what users hold of one thing, against a limit for each user and one for all together, split fairly among groups. */
export class Shares {
  readonly #perUser: LimitName;
  readonly #all: LimitName;
  readonly #held = new Map<number, number>();
  readonly #groups = new FairSplit();

  constructor(perUser: LimitName, all: LimitName) {
    this.#perUser = perUser;
    this.#all = all;
  }

  /** Gives `owner` `count` more, or answers the limit that stands against it; then nothing is taken. */
  take(owner: Owner, count: number): LimitMet | undefined {
    if (count === 0) return undefined;
    const held = (this.#held.get(owner.user) ?? 0) + count;
    if (held > limits[this.#perUser]) return { limit: this.#perUser, value: limits[this.#perUser] };
    if (!this.#groups.mayTake(owner, count, limits[this.#all])) {
      return { limit: this.#all, value: limits[this.#all] };
    }
    this.#groups.take(owner, count);
    this.#held.set(owner.user, held);
    return undefined;
  }

  /** Counts what `owner` holds already, also beyond the limits. */
  inherit(owner: Owner, count: number): void {
    if (count === 0) return;
    this.#groups.take(owner, count);
    this.#held.set(owner.user, (this.#held.get(owner.user) ?? 0) + count);
  }

  /** Takes `count` back from `owner`. */
  give(owner: Owner, count: number): void {
    const held = (this.#held.get(owner.user) ?? 0) - count;
    if (held < 0) throw new RangeError(`user ${owner.user} gives back more than was taken`);
    if (held === 0) this.#held.delete(owner.user);
    else this.#held.set(owner.user, held);
    this.#groups.give(owner, count);
  }

  /** How much the owner's group holds. */
  heldByGroup(owner: Owner): number {
    return this.#groups.heldByGroup(owner);
  }

  /** How much all users hold together. */
  get total(): number {
    return this.#groups.total;
  }
}
