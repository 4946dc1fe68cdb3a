import { groupOf, type Owner } from './owner.ts';

/** One part in so many is kept back for root, who has to be able to reload a policy under attack. */
const keptBackPart = 16;

/**
 * Splits something limited among groups of users, however many user IDs each has: a group that holds some already gets more only
 * as long as that is no more than what is free. So `n` groups that take what they can have an (n+1)th each and leave
 * one, and whoever comes anew finds room at once.
 */
export class FairSplit {
  readonly #held = new Map<string, number>();
  #total = 0;

  /** Whether `owner` may have `count` more where there are `all` to be had. */
  mayTake(owner: Owner, count: number, all: number): boolean {
    const free = all - this.#total - (owner.root === true ? 0 : Math.floor(all / keptBackPart));
    if (count > free) return false;
    const held = this.#held.get(groupOf(owner)) ?? 0;
    return held === 0 || held + count <= free;
  }

  /** Counts `count` more for `owner`. */
  take(owner: Owner, count: number): void {
    const group = groupOf(owner);
    this.#held.set(group, (this.#held.get(group) ?? 0) + count);
    this.#total += count;
  }

  /** Takes `count` back from `owner`. */
  give(owner: Owner, count: number): void {
    const group = groupOf(owner);
    const held = (this.#held.get(group) ?? 0) - count;
    if (held < 0) throw new RangeError(`the group "${group}" gives back more than was taken`);
    if (held === 0) this.#held.delete(group);
    else this.#held.set(group, held);
    this.#total -= count;
  }

  /** How much the owner's group holds. */
  heldByGroup(owner: Owner): number {
    return this.#held.get(groupOf(owner)) ?? 0;
  }

  /** How much all hold together. */
  get total(): number {
    return this.#total;
  }
}
