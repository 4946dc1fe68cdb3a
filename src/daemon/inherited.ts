import { setTimeout as wait } from 'node:timers/promises';
import { LimitExceeded, TimedOut } from '../api/mount-delegation.ts';
import { isSyscallError } from '../sys/errno.ts';
import { service } from './owner.ts';
import type { Pool } from './pool.ts';
import type { SuperblockRecord } from './superblock-records.ts';

/** Between one look at them all and the next, and so much more for each: to look at one takes a tenth of that. */
const restMilliseconds = 1000;
const restEachMilliseconds = 1;

/** What looking at superblocks of an earlier process needs. */
export interface InheritedOptions {
  readonly pool: Pick<Pool, 'run'>;
  /** Told of each that is gone. */
  readonly gone: (record: SuperblockRecord) => void;
}

/**
 * The superblocks that an earlier process of this service handed out. Each counts until it is seen to be gone. The kernel tells this
 * process nothing of them, so it asks, every now and then: on a thread, for a FUSE filesystem may have got the number
 * since, and leave the question unanswered. One of which that happened counts for as long as this process lives.
 */
export class Inherited {
  readonly #options: InheritedOptions;
  readonly #records: Map<number, SuperblockRecord>;
  readonly #unanswered = new Set<number>();
  readonly #stop = new AbortController();

  constructor(records: readonly SuperblockRecord[], options: InheritedOptions) {
    this.#records = new Map(records.map((record) => [record.device, record]));
    this.#options = options;
  }

  /** How many there are, as far as known. */
  get count(): number {
    return this.#records.size;
  }

  /** Looks at them until all are gone. Rejects where that is not to be known, with SyscallError: then all stay counted. */
  async look(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      for (const record of [...this.#records.values()]) {
        if (signal.aborted) return;
        if (!this.#unanswered.has(record.device)) await this.#lookAt(record);
      }
      if (this.#records.size === this.#unanswered.size) return;
      const rest = restMilliseconds + restEachMilliseconds * this.#records.size;
      await wait(rest, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** A new superblock has this number: whatever had it before is gone. */
  replaced(device: number): void {
    const record = this.#records.get(device);
    this.#unanswered.delete(device);
    if (this.#records.delete(device) && record !== undefined) this.#options.gone(record);
  }

  /** Looks no more. */
  stop(): void {
    this.#stop.abort();
  }

  async #lookAt({ device, freeInodes }: SuperblockRecord): Promise<void> {
    const options = { owner: service.looking, stallable: true };
    try {
      const task = { kind: 'isAlive', superblock: { device, freeInodes } } as const;
      const { value } = await this.#options.pool.run<'isAlive'>(task, [], options);
      if (!value.alive) this.replaced(device);
    } catch (error) {
      if (isSyscallError(error)) throw error;
      // No thread of its own is left to it: the next round asks again.
      if (error instanceof LimitExceeded) return;
      if (!(error instanceof TimedOut)) throw error;
      this.#unanswered.add(device);
    }
  }
}
