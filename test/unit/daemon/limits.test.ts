import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { adjustLimits, limits, limitTable } from '../../../src/daemon/callers/limits.ts';
import { containerRoot } from '../../../src/daemon/callers/owner.ts';
import { Rate, RateLimit } from '../../../src/daemon/callers/rate.ts';
import { Shares } from '../../../src/daemon/callers/shares.ts';

describe('the table of limits', () => {
  test('has a whole number and a reason for each', () => {
    for (const [name, limit] of Object.entries(limitTable)) {
      expect(Number.isSafeInteger(limit.value) && limit.value > 0, name).toBe(true);
      expect(limit.why.length, name).toBeGreaterThan(20);
    }
  });

  test('lets the service end by itself before systemd kills it, whatever a peer does', () => {
    const unit = readFileSync(join(import.meta.dirname, '../../../systemd/cfs-mountd.service'), 'utf8');
    const seconds = Number(/^TimeoutStopSec=(\d+)s$/m.exec(unit)?.[1]);
    expect(seconds * 1000).toBeGreaterThan(limits.stopMilliseconds);
    // A call that a client stalls, and then its reply, which nobody reads.
    expect(limits.stallMilliseconds + limits.lastReplyMilliseconds).toBeLessThan(limits.stopMilliseconds);
  });

  test('gives one user less than all users together', () => {
    for (const [name, value] of Object.entries(limits)) {
      if (!name.endsWith('PerUser')) continue;
      const all = Object.entries(limits).find(([other]) => other === name.slice(0, -'PerUser'.length));
      if (all !== undefined) expect(value, name).toBeLessThan(all[1]);
    }
  });
});

describe('other values for limits', () => {
  test.each<[string, number, RegExp]>([
    ['moon', 1, /no limit/],
    ['constructor', 1, /no limit/],
    ['messageDescriptors', 10, /cannot be changed/],
    ['stores', 0, /above 0/],
    ['stores', 1.5, /above 0/],
    ['connectionsPerUser', 5000, /for all users together 4096/],
    ['connections', 100, /connectionsPerUser/],
  ])('%s=%d is refused, and changes nothing', (name, value, reason) => {
    const before = { ...limits };
    expect(() => {
      adjustLimits(new Map([[name, value]]));
    }).toThrow(reason);
    expect(limits).toEqual(before);
  });

  test('are in force at once, a user’s and all together', () => {
    const before = new Map([
      ['connections', limits.connections],
      ['connectionsPerUser', limits.connectionsPerUser],
    ]);
    adjustLimits(
      new Map([
        ['connections', 40],
        ['connectionsPerUser', 2],
      ]),
    );
    const shares = new Shares('connectionsPerUser', 'connections');
    expect(shares.take({ user: 1 }, 2)).toBeUndefined();
    expect(shares.take({ user: 1 }, 1)).toEqual({ limit: 'connectionsPerUser', value: 2 });
    adjustLimits(before);
    expect(limits.connections).toBe(limitTable.connections.value);
  });
});

describe('shares', () => {
  test('end at the limit of the user', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    const most = limits.connectionsPerUser;
    expect(shares.take({ user: 1 }, most)).toBeUndefined();
    expect(shares.take({ user: 1 }, 1)).toEqual({ limit: 'connectionsPerUser', value: most });
    shares.give({ user: 1 }, most);
    expect(shares.take({ user: 1 }, 1)).toBeUndefined();
  });

  test('of a group end where it holds as much as is free, however many users it has', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    const all = { limit: 'connections', value: limits.connections };
    let user = 100_000;
    while (shares.take({ user, group: 'container 7' }, 1) === undefined) user += 1;
    expect(shares.take({ user: 99, group: 'container 7' }, 1)).toEqual(all);
    expect(shares.total).toBeLessThanOrEqual(limits.connections / 2);
    // What another group can still take is half of what the first one left.
    let other = 0;
    while (shares.take({ user: 200_000 + other, group: 'container 8' }, 1) === undefined) other += 1;
    expect(other).toBeGreaterThan(limits.connections / 5);
    expect(shares.take({ user: 1234 }, 1)).toBeUndefined();
  });

  test('keep some for root back, and none for user 0 of a container', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    for (let user = 1; shares.take({ user }, 1) === undefined;) user += 1;
    expect(shares.take({ user: containerRoot, group: 'container 7' }, 1)).toBeDefined();
    expect(shares.take({ user: 0, root: true }, 1)).toBeUndefined();
  });

  test('cannot be given back twice', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    shares.take({ user: 1 }, 1);
    shares.give({ user: 1 }, 1);
    expect(() => {
      shares.give({ user: 1 }, 1);
    }).toThrow(RangeError);
    expect(shares.total).toBe(0);
  });
});

describe('a rate', () => {
  test('lets one through for each interval and counts the rest', () => {
    const rate = new Rate(1000);
    expect(rate.pass(0)).toBe(0);
    expect(rate.pass(1)).toBeUndefined();
    expect(rate.pass(999)).toBeUndefined();
    expect(rate.pass(1000)).toBe(2);
    expect(rate.pass(2000)).toBe(0);
  });
});

describe('a rate limit', () => {
  test('lets through what comes in time, ten seconds’ worth at once, for a group in all, and root always', () => {
    const rate = new RateLimit(() => 2);
    const passed = (user: number, now: number): number => {
      let count = 0;
      while (count < 100 && rate.pass({ user, group: 'container 7' }, now)) count += 1;
      return count;
    };
    expect(passed(1, 0)).toBe(20);
    expect(passed(2, 0)).toBe(0);
    expect(passed(2, 1000)).toBe(2);
    expect(rate.pass({ user: 3 }, 1000)).toBe(true);
    expect(passed(1, 60_000)).toBe(20);
    for (let count = 0; count < 100; count += 1) expect(rate.pass({ user: 0, root: true }, 0)).toBe(true);
  });
});
