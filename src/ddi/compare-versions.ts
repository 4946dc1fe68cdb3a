/**
 * Compares versions by the UAPI Group's Version Format Specification (UAPI.10), which is also how labels of partitions are
 * compared: below 0 where `a` is the older, above 0 where it is the newer, 0 where neither is.
 */
export function compareVersions(a: string, b: string): number {
  let [left, right] = [a, b];
  for (;;) {
    left = left.replace(/^[^0-9A-Za-z~.^-]+/, '');
    right = right.replace(/^[^0-9A-Za-z~.^-]+/, '');
    // A pre-release is older even than the end.
    const tilde = separator(left, right, '~');
    if (tilde !== 0) return tilde;
    if (left === '' || right === '') return Number(left !== '') - Number(right !== '');
    for (const mark of ['-', '^', '.']) {
      const order = separator(left, right, mark);
      if (order !== 0) return order;
    }
    const run = prefixOf(left, right);
    const [head, otherHead] = [run.exec(left)?.[0] ?? '', run.exec(right)?.[0] ?? ''];
    const order = compareRuns(head, otherHead);
    if (order !== 0) return order;
    left = left.slice(head.length);
    right = right.slice(otherHead.length);
  }
}

/** What of both is compared next: a separator, which both have by now, numbers, or letters. */
function prefixOf(left: string, right: string): RegExp {
  if (/^[~.^-]/.test(left)) return /^[~.^-]/;
  return /^[0-9]/.test(left) || /^[0-9]/.test(right) ? /^[0-9]*/ : /^[A-Za-z]*/;
}

/** The one that goes on with `mark` where the other does not is the older. */
function separator(left: string, right: string, mark: string): number {
  return Number(right.startsWith(mark)) - Number(left.startsWith(mark));
}

/** Numbers by their value, an empty one being 0; letters one by one, capitals first; a separator is as old as itself. */
function compareRuns(left: string, right: string): number {
  const [a, b] = [left.replace(/^0+/, ''), right.replace(/^0+/, '')];
  if (/^[0-9]/.test(a + b) && a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : Number(a > b);
}
