import { LimitExceeded } from '../../api/mount-delegation.ts';
import { limits } from '../callers/limits.ts';

/** What counts for a file: whole blocks, as it takes them on a disk. Many small files count as what they cost, too. */
const blockBytes = 4096;

/** What files of these sizes count for, in bytes. */
export function chargedBytes(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + Math.ceil(size / blockBytes) * blockBytes, 0);
}

interface Account {
  readonly from: number;
  bytes: number;
}

/**
 * How many bytes each user adds to stores within an hour, and all users together. It is not remembered across restarts: what
 * can be added at all is bounded by the images that the policy admits.
 */
export class AddingQuota {
  readonly #accounts = new Map<number, Account>();
  #all: Account = { from: Number.NEGATIVE_INFINITY, bytes: 0 };

  /**
   * Charges `user` with `bytes` bytes at the time `now` (milliseconds of a clock that never goes back). `bytesPerHour` is what
   * the rule says, where it does. Throws LimitExceeded, and then charges nothing.
   */
  take(user: number, bytes: number, bytesPerHour: number | undefined, now: number): void {
    const account = this.#account(user, now);
    if (!isCurrent(this.#all, now)) this.#all = { from: now, bytes: 0 };
    const most = bytesPerHour ?? limits.addedBytesPerUser;
    if (account.bytes + bytes > most) throw new LimitExceeded({ limit: 'addedBytesPerUser', value: most });
    if (this.#all.bytes + bytes > limits.addedBytes) {
      throw new LimitExceeded({ limit: 'addedBytes', value: limits.addedBytes });
    }
    account.bytes += bytes;
    this.#all.bytes += bytes;
  }

  /** Takes back part of what `user` was charged with and did not need. What an earlier hour was charged with is forgotten. */
  giveBack(user: number, bytes: number): void {
    const account = this.#accounts.get(user);
    if (account !== undefined) account.bytes = Math.max(0, account.bytes - bytes);
    this.#all.bytes = Math.max(0, this.#all.bytes - bytes);
  }

  #account(user: number, now: number): Account {
    const known = this.#accounts.get(user);
    if (known !== undefined && isCurrent(known, now)) return known;
    // Before one more is remembered, those whose hour is over are forgotten.
    for (const [other, account] of this.#accounts) if (!isCurrent(account, now)) this.#accounts.delete(other);
    const account = { from: now, bytes: 0 };
    this.#accounts.set(user, account);
    return account;
  }
}

function isCurrent(account: Account, now: number): boolean {
  return now - account.from < limits.addedMilliseconds;
}
