import { describe, expect, test } from 'vitest';
import type { Owner } from '../../../src/daemon/callers/owner.ts';
import { Turns } from '../../../src/daemon/connections/turns.ts';

/** Enters `name` for `user` and records in `begun` when it begins. */
function entrant(turns: Turns, begun: string[]): (user: number, name: string) => () => void {
  return (user, name) => {
    const begin = (): void => {
      begun.push(name);
    };
    turns.enter({ user }, begin);
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
    turns.end({ user: 1 });
    await Promise.resolve();
    expect(begun).toEqual(['a', 'd', 'b']);
    turns.end({ user: 1 });
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
      turns.end({ user });
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
    expect(turns.leave({ user: 1 }, second)).toBe(true);
    expect(turns.leave({ user: 1 }, second)).toBe(false);
    expect(turns.leave({ user: 1 }, first)).toBe(false);
    turns.end({ user: 1 });
    await Promise.resolve();
    expect(begun).toEqual(['a']);
    expect(turns.running).toBe(0);
  });

  test('that end at once do not nest, however many wait', async () => {
    const turns = new Turns(1, 1);
    let ended = 0;
    turns.enter({ user: 1 }, () => undefined);
    for (let count = 0; count < 20_000; count += 1) {
      turns.enter({ user: 1 }, () => {
        ended += 1;
        turns.end({ user: 1 });
      });
    }
    turns.end({ user: 1 });
    while (turns.running > 0) await Promise.resolve();
    expect(ended).toBe(20_000);
  });

  test('of many users of one group leave one to whoever comes anew, and root has some of its own', () => {
    const begun: string[] = [];
    const turns = new Turns(16, 64);
    const enter = (owner: Owner, name: string): void => {
      turns.enter(owner, () => begun.push(name));
    };
    for (let user = 100_000; user < 101_000; user += 1) enter({ user, group: 'container 7' }, 'of the group');
    expect(begun).toHaveLength(30);
    for (let user = 1; user <= 200; user += 1) enter({ user, group: `container ${user % 20}` }, 'of twenty');
    const before = begun.length;
    enter({ user: 1234 }, 'anew');
    enter({ user: 0, root: true }, 'root');
    expect(begun.slice(before)).toEqual(['anew', 'root']);
    for (let user = 2000; user < 2100; user += 1) enter({ user }, 'one each');
    enter({ user: 0, root: true }, 'root again');
    expect(begun.at(-1)).toBe('root again');
  });
});
