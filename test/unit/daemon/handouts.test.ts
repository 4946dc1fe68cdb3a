import { afterEach, beforeEach, expect, test } from 'vitest';
import { LiveMount, type MountRecord } from '../../../src/daemon/callers/handouts.ts';
import { adjustLimits, limits } from '../../../src/daemon/callers/limits.ts';
import { Shares } from '../../../src/daemon/callers/shares.ts';

const before = { ...limits };
const peer = { user: 1000 };

beforeEach(() => {
  adjustLimits(new Map([['recordedBytesPerUser', 10_000]]));
});
afterEach(() => {
  adjustLimits(new Map([['recordedBytesPerUser', before.recordedBytesPerUser]]));
});

/** A mount that was let out to a caller of so many groups, who showed `bytes` bytes. */
function record(group: number, bytes: number): MountRecord {
  const caller = { uid: 1000, root: false, gids: [group] };
  // What a record is asked for here, and no more.
  return {
    question: { caller, location: undefined },
    files: [new Uint8Array(bytes)],
    sentBytes: bytes,
    evidence: { rule: 'rule' },
  } as unknown as MountRecord;
}

const heldBy = (lives: readonly LiveMount[]): number =>
  lives
    .flatMap(({ records }) => records.flatMap(({ files }) => files))
    .reduce((sum, { length }) => sum + length, 0);

test('what one user showed for all mounts together is bounded, and forgotten with them', () => {
  const sent = new Shares('recordedBytesPerUser', 'recordedBytes');
  const lives = [1, 2, 3].map(() => new LiveMount(peer, sent));
  for (const live of lives) for (let group = 0; group < 10; group += 1) live.add(record(group, 1000), peer);
  expect(heldBy(lives)).toBe(10_000);
  expect(lives.flatMap(({ records }) => records)).toHaveLength(30);
  // Another user has a share of their own.
  lives[2]?.add(record(99, 1000), { user: 1001 });
  expect(heldBy(lives)).toBe(11_000);
  lives[0]?.end();
  expect(lives[0]?.records).toEqual([]);
  lives[1]?.add(record(50, 1000), peer);
  expect(heldBy(lives)).toBe(2000);
  for (const live of lives) live.end();
  expect(sent.total).toBe(0);
});

test('a record that takes the place of another, or pushes one out, gives its bytes back', () => {
  const sent = new Shares('recordedBytesPerUser', 'recordedBytes');
  const live = new LiveMount(peer, sent);
  for (let round = 0; round < 5; round += 1) for (const group of [1, 2]) live.add(record(group, 3000), peer);
  expect(sent.total).toBe(6000);
  for (let group = 0; group < 1000; group += 1) live.add(record(group, 10), peer);
  expect(sent.total).toBe(2560);
  expect(live.records).toHaveLength(256);
});
