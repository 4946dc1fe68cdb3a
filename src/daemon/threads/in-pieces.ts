import { setImmediate } from 'node:timers/promises';

/** So long at a time, and then others have their turn: some mounts' worth. */
const pieceMilliseconds = 2;

/** Those of `items` for which `test` holds, looked at in pieces, so that the event loop goes on meanwhile. */
export async function filterInPieces<Item>(
  items: readonly Item[],
  test: (item: Item) => boolean,
): Promise<Item[]> {
  const found: Item[] = [];
  let begun = performance.now();
  for (const item of items) {
    if (performance.now() - begun > pieceMilliseconds) {
      await setImmediate();
      begun = performance.now();
    }
    if (test(item)) found.push(item);
  }
  return found;
}
