import { describe, expect, test } from 'vitest';
import { limits, limitTable } from '../../../src/daemon/limits.ts';
import { Rate } from '../../../src/daemon/rate.ts';
import { Shares } from '../../../src/daemon/shares.ts';

describe('the table of limits', () => {
  test('has a whole number and a reason for each', () => {
    for (const [name, limit] of Object.entries(limitTable)) {
      expect(Number.isSafeInteger(limit.value) && limit.value > 0, name).toBe(true);
      expect(limit.why.length, name).toBeGreaterThan(20);
    }
  });

  test('gives one user less than all users together', () => {
    for (const [name, value] of Object.entries(limits)) {
      if (!name.endsWith('PerUser')) continue;
      const all = Object.entries(limits).find(([other]) => other === name.slice(0, -'PerUser'.length));
      if (all !== undefined) expect(value, name).toBeLessThan(all[1]);
    }
  });
});

describe('shares', () => {
  test('end at the limit of the user, and of all', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    const most = limits.connectionsPerUser;
    expect(shares.take(1, most)).toBeUndefined();
    expect(shares.take(1, 1)).toEqual({ limit: 'connectionsPerUser', value: most });
    for (let user = 2; shares.total + most <= limits.connections; user += 1) {
      expect(shares.take(user, most)).toBeUndefined();
    }
    expect(shares.take(99_999, limits.connections - shares.total + 1)).toEqual({
      limit: 'connections',
      value: limits.connections,
    });
    shares.give(1, most);
    expect(shares.take(1, 1)).toBeUndefined();
  });

  test('cannot be given back twice', () => {
    const shares = new Shares('connectionsPerUser', 'connections');
    shares.take(1, 1);
    shares.give(1, 1);
    expect(() => {
      shares.give(1, 1);
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
