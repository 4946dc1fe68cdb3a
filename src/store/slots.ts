/**
 * Runs a bounded number of asynchronous tasks at once. The first failure stops what has not begun; it is thrown by
 * `free` and `finish`, never lost.
 */
export class Slots {
  readonly #most: number;
  #running = 0;
  #waiting: (() => void)[] = [];
  #failure: { readonly error: unknown } | undefined;

  /** At most `most` tasks (1 or more) run at a time. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Whether a task may begin at once. */
  get isFree(): boolean {
    return this.#running < this.#most && this.#failure === undefined;
  }

  /** Waits until a task may begin. Throws what an earlier one threw. */
  async free(): Promise<void> {
    while (this.#running >= this.#most) await this.#ended();
    this.#throwFailure();
  }

  /** Begins `task`, in the slot that the caller has waited for. */
  begin(task: () => Promise<void>): void {
    this.#running++;
    void this.#run(task);
  }

  /** Waits until nothing runs any more, whether it failed or not, then throws the first failure if there is one. */
  async finish(): Promise<void> {
    await this.settle();
    this.#throwFailure();
  }

  /** Waits until nothing runs any more. Never throws. */
  async settle(): Promise<void> {
    while (this.#running > 0) await this.#ended();
  }

  async #run(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#running--;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  /** Resolves once a task more has ended. */
  #ended(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
