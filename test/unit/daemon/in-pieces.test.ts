import { expect, test } from 'vitest';
import { filterInPieces } from '../../../src/daemon/threads/in-pieces.ts';

/** Takes longer than a piece may. */
function slow(): void {
  for (const end = performance.now() + 5; performance.now() < end;);
}

test('others have their turn while much is looked at', async () => {
  let turns = 0;
  let going = true;
  const turn = (): void => {
    turns += 1;
    if (going) setImmediate(turn);
  };
  setImmediate(turn);
  const found = await filterInPieces([1, 2, 3, 4, 5, 6], (item) => {
    slow();
    return item % 2 === 0;
  });
  going = false;
  expect(found).toEqual([2, 4, 6]);
  // One before each item but the first.
  expect(turns).toBeGreaterThanOrEqual(5);
});

test('what is little is looked at in order, and nothing gives nothing', async () => {
  expect(await filterInPieces([], () => true)).toEqual([]);
  expect(await filterInPieces(['b', 'a'], () => true)).toEqual(['b', 'a']);
});
