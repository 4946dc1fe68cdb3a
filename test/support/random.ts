/** Seeded numbers (mulberry32), so that a failure can be had again: CFS_FUZZ_SEED takes the seed that a failure names. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(salt: number) {
    this.seed = Number(process.env['CFS_FUZZ_SEED'] ?? '20261121') + salt;
    this.#state = this.seed;
  }

  /** A whole number from 0 up to but not including `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % end;
  }

  pick<Value>(values: readonly [Value, ...Value[]]): Value {
    return values[this.below(values.length)] ?? values[0];
  }

  /** The bytes with one to four changes: a bit flipped, bytes cut out, doubled, or replaced by a word. */
  mutate(bytes: Uint8Array, words: readonly [string, ...string[]]): Uint8Array {
    let changed = bytes;
    for (let count = 1 + this.below(4); count > 0; count--) changed = this.#change(changed, words);
    return changed;
  }

  #change(bytes: Uint8Array, words: readonly [string, ...string[]]): Uint8Array {
    const at = this.below(bytes.length + 1);
    const end = Math.min(bytes.length, at + this.below(20));
    const [before, middle, after] = [bytes.subarray(0, at), bytes.subarray(at, end), bytes.subarray(end)];
    switch (this.below(5)) {
      case 0:
        return bytes.length === at ? bytes : bytes.with(at, (bytes[at] ?? 0) ^ (1 << this.below(8)));
      case 1:
        return new Uint8Array(Buffer.concat([before, after]));
      case 2:
        return new Uint8Array(Buffer.concat([before, middle, middle, after]));
      case 3:
        return new Uint8Array(Buffer.concat([before, Buffer.from(this.pick(words)), after]));
      default:
        return new Uint8Array(before);
    }
  }
}
