import { groupOf, type Owner } from './owner.ts';

/** Lets one thing through for each interval and counts the others, so that a peer cannot fill the log. */
export class Rate {
  readonly #milliseconds: number;
  #from = Number.NEGATIVE_INFINITY;
  #suppressed = 0;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  /** Undefined where it is too soon; else how many were held back since the last that was let through. */
  pass(now: number): number | undefined {
    if (now - this.#from < this.#milliseconds) {
      this.#suppressed += 1;
      return undefined;
    }
    const suppressed = this.#suppressed;
    this.#from = now;
    this.#suppressed = 0;
    return suppressed;
  }
}

/** Groups of which a bucket is remembered, before those are forgotten that are full again. */
const bucketsMax = 4096;

interface Bucket {
  tokens: number;
  at: number;
}

/**
 * How often each group of users (owner.ts) may do something: so many times a second for as long as it likes, and ten seconds'
 * worth at once where it was quiet before.
 */
export class RateLimit {
  readonly #perSecond: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(perSecond: () => number) {
    this.#perSecond = perSecond;
  }

  /** Whether the owner may do it once more at `now`, as performance.now(). Root always may. */
  pass(owner: Owner, now: number): boolean {
    if (owner.root === true) return true;
    const perSecond = this.#perSecond();
    const full = perSecond * 10;
    const group = groupOf(owner);
    const bucket = this.#buckets.get(group) ?? this.#add(group, full, now);
    bucket.tokens = Math.min(full, bucket.tokens + ((now - bucket.at) * perSecond) / 1000);
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  #add(group: string, full: number, now: number): Bucket {
    if (this.#buckets.size >= bucketsMax) {
      for (const [name, { at }] of this.#buckets) if (now - at > 10_000) this.#buckets.delete(name);
    }
    const bucket = { tokens: full, at: now };
    this.#buckets.set(group, bucket);
    return bucket;
  }
}
