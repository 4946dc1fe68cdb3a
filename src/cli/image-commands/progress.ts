/** The shortest time between two lines of progress, in milliseconds: as often as one can read. */
const intervalMilliseconds = 200;

/** Work that is done sooner shows no progress, in milliseconds. */
const patienceMilliseconds = 1000;

/** A line on standard error that says how far long work is; nothing unless that is a terminal, and nothing if `quiet`. */
export class Progress implements Disposable {
  readonly #visible: boolean;
  readonly #begunAt = Date.now();
  #shownAt = 0;
  #shown = false;

  constructor(options: { readonly quiet?: boolean } = {}) {
    this.#visible = options.quiet !== true && process.stderr.isTTY;
  }

  /** Shows how much of work of a known size is done, by bytes, how long the rest takes at this pace, and `more`. */
  showPart(done: number, all: number, more = ''): void {
    this.show(() => {
      const seconds = (Date.now() - this.#begunAt) / 1000;
      const left = done === 0 ? '' : `, ${formatSeconds((seconds * Math.max(all - done, 0)) / done)} left`;
      const detail = more === '' ? '' : `, ${more}`;
      return `${bar(done, all)} ${formatSize(done)} of ${formatSize(all)}${detail}${left}`;
    });
  }

  /** Shows `text` in place of what was shown last, unless that is only just there. */
  show(text: () => string): void {
    const now = Date.now();
    if (!this.#visible || now - this.#begunAt < patienceMilliseconds) return;
    if (now - this.#shownAt < intervalMilliseconds) return;
    this.#shownAt = now;
    this.#shown = true;
    process.stderr.write(`\r\x1b[K${text()}`);
  }

  /** Takes the line away again. */
  [Symbol.dispose](): void {
    if (this.#shown) process.stderr.write('\r\x1b[K');
  }
}

/** How far `done` is on the way to `all`, as a picture of 20 characters. */
function bar(done: number, all: number): string {
  const filled = all === 0 ? 20 : Math.min(20, Math.floor((20 * done) / all));
  return `[${'#'.repeat(filled)}${' '.repeat(20 - filled)}]`;
}

/** A duration for people: `12 s`, `3:05 min`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')} min`;
}

/** A size for people: `12.3 MiB`. */
export function formatSize(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ''}`;
}
