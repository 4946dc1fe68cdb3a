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
