/** Times of one kind of round, in microseconds. */
export interface Times {
  readonly name: string;
  readonly times: readonly number[];
  /** What else is to be said. */
  readonly note?: string;
}

/** The value below which `part` of the sorted values lie. */
export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)] ?? NaN;
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/** A table in Markdown; the first row is its head. */
export function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, index) => (index === 0 ? '---' : '---:'));
  return [line(head), line(rule), ...body.map(line)].join('\n');
}

/** Medians and p99 of each, with the ratio of the medians to that of `unit`. */
export function timesTable(all: readonly Times[], unit: number): string {
  const rows = all.map(({ name, times, note = '' }) => {
    const sorted = [...times].sort((a, b) => a - b);
    const [p50, p99] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
    return [
      name,
      `${times.length}`,
      microseconds(p50),
      microseconds(p99),
      `${(p50 / unit).toFixed(2)} ×`,
      note,
    ];
  });
  return table([['', 'rounds', 'p50', 'p99', 'to raw', ''], ...rows]);
}

/** A time for people. */
export function microseconds(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} s`;
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} ms`;
  return value >= 1000 ? `${(value / 1000).toFixed(2)} ms` : `${value.toFixed(value < 20 ? 1 : 0)} µs`;
}

/** `document` with `text` as its section of that name, in place of the one before. */
export function replaceSection(document: string, name: string, text: string): string {
  const whole = section(name, text);
  const before = sectionOf(document, name);
  return before === undefined ? `${document.trimEnd()}\n\n${whole}\n` : document.replace(before, () => whole);
}

/** The section of that name, its marks included; undefined where the document has none. */
export function sectionOf(document: string, name: string): string | undefined {
  return new RegExp(`<!-- ${name} -->.*<!-- end of ${name} -->`, 's').exec(document)?.[0];
}

function section(name: string, text: string): string {
  return `<!-- ${name} -->\n\n${text}\n\n<!-- end of ${name} -->`;
}
