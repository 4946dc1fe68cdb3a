import { describe, expect, test } from 'vitest';
import { Turns } from '../../../src/daemon/turns.ts';

/** Enters `name` for `user` and records in `begun` when it begins. */
function entrant(turns: Turns, begun: string[]): (user: number, name: string) => () => void {
  return (user, name) => {
    const begin = (): void => {
      begun.push(name);
    };
    turns.enter(user, begin);
    return begin;
  };
}

describe('turns', () => {
  test('begin at once where there is room', () => {
    const begun: string[] = [];
    const enter = entrant(new Turns(2, 3), begun);
    enter(1, 'a');
    enter(1, 'b');
    enter(2, 'c');
    expect(begun).toEqual(['a', 'b', 'c']);
  });

  test('of one user wait in order once the user has as many as are allowed', async () => {
    const begun: string[] = [];
    const turns = new Turns(1, 3);
    const enter = entrant(turns, begun);
    enter(1, 'a');
    enter(1, 'b');
    enter(1, 'c');
    enter(2, 'd');
    expect(begun).toEqual(['a', 'd']);
    turns.end(1);
    await Promise.resolve();
    expect(begun).toEqual(['a', 'd', 'b']);
    turns.end(1);
    await Promise.resolve();
    expect(begun).toEqual(['a', 'd', 'b', 'c']);
  });

  test('go round among the users who wait', async () => {
    const begun: string[] = [];
    const turns = new Turns(5, 1);
    const enter = entrant(turns, begun);
    enter(1, 'a1');
    for (const name of ['a2', 'a3', 'a4']) enter(1, name);
    for (const name of ['b1', 'b2']) enter(2, name);
    const order = [1, 1, 2, 1, 2];
    for (const user of order) {
      turns.end(user);
      await Promise.resolve();
    }
    expect(begun).toEqual(['a1', 'a2', 'b1', 'a3', 'b2', 'a4']);
  });

  test('that are taken back never begin', async () => {
    const begun: string[] = [];
    const turns = new Turns(1, 1);
    const enter = entrant(turns, begun);
    const first = enter(1, 'a');
    const second = enter(1, 'b');
    expect(turns.leave(1, second)).toBe(true);
    expect(turns.leave(1, second)).toBe(false);
    expect(turns.leave(1, first)).toBe(false);
    turns.end(1);
    await Promise.resolve();
    expect(begun).toEqual(['a']);
    expect(turns.running).toBe(0);
  });

  test('that end at once do not nest, however many wait', async () => {
    const turns = new Turns(1, 1);
    let ended = 0;
    turns.enter(1, () => undefined);
    for (let count = 0; count < 20_000; count += 1) {
      turns.enter(1, () => {
        ended += 1;
        turns.end(1);
      });
    }
    turns.end(1);
    while (turns.running > 0) await Promise.resolve();
    expect(ended).toBe(20_000);
  });
});
