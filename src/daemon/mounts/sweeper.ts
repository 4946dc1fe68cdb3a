import type { OwnedFd } from '../../sys/fd.ts';
import type { Stage } from '../../sys/stage.ts';
import { service } from '../callers/owner.ts';
import type { Pool } from '../threads/pool.ts';

/** How long what a stage has left stays there: one sweep then takes the leavings of several mounts. */
const delayMilliseconds = 10;

/**
 * So many descriptors and attached mounts may wait while a thread is at those before: more, and mounts are made faster
 * than the kernel takes them away. Then the loop itself has to wait for that. Where they count against somebody, it does
 * so before that user is refused (Handouts.onShort).
 */
const leavingsMax = 8192;

/**
 * So many mounts that were sent may wait for the thread; then it is behind, and the next are closed at once. Mostly the
 * receiver is the last to close those, and takes them apart; where it was quicker, the loop has to wait for that, which
 * a single client's next call would feel.
 */
const sentWaitingMax = 512;

/**
 * Sweeps the event loop's stage on a thread of the pool. Unmounting waits for the kernel's readers, and takes filesystems
 * apart whose receiver has closed them already; meanwhile the loop serves others.
 */
export class Sweeper {
  readonly #stage: Stage;
  readonly #pool: Pool;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> | undefined;
  #stopped = false;

  constructor(stage: Stage, pool: Pool) {
    this.#stage = stage;
    this.#pool = pool;
  }

  /** Takes over a mount that is not wanted here: closed here last, it would have to be taken apart. */
  discard(mount: OwnedFd): void {
    this.#stage.discard(mount);
    this.sweepSoon();
  }

  /** Takes over a mount that was sent. */
  discardSent(mount: OwnedFd): void {
    if (this.#stage.leavings >= sentWaitingMax) mount.close();
    else this.discard(mount);
  }

  /** The stage has left something, or will have by the end of this turn of the loop. */
  sweepSoon(): void {
    if (this.#stage.leavings >= leavingsMax) this.#stage.sweep();
    if (this.#timer !== undefined || this.#sweeping !== undefined || this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#sweeping = this.#sweep().then(() => {
        this.#sweeping = undefined;
        if (this.#stage.leavings > 0) this.sweepSoon();
      });
    }, delayMilliseconds);
  }

  /** The sweep that is under way, where one is. */
  get sweeping(): Promise<void> | undefined {
    return this.#sweeping;
  }

  /** When this resolves, nothing of what the stage had left is there any more: superblocks that nobody else holds are gone. */
  async settled(): Promise<void> {
    while (this.#sweeping !== undefined) await this.#sweeping;
    this.#stage.sweep();
  }

  /** Waits for the sweep that is under way and begins none; what is left goes as the stage is closed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#sweeping;
  }

  /** One sweep at a time; what is left meanwhile goes with the next. A failure is a bug, which nobody catches. */
  async #sweep(): Promise<void> {
    const leavings = this.#stage.takeLeavings();
    if (leavings === undefined) return;
    const options = { owner: service.sweeping, stallable: false };
    await this.#pool.run<'sweep'>({ kind: 'sweep', leavings }, [], options);
    this.#stage.swept(leavings);
  }
}
