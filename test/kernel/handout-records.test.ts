import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestHex } from '../../src/base/digest.ts';
import { Closing } from '../../src/daemon/connections/closing.ts';
import { scanImage } from '../../src/composefs/scan.ts';
import { HandoutRecords } from '../../src/daemon/mounts/handout-records.ts';
import { tabulate, type ObjectTable } from '../../src/daemon/threads/object-table.ts';
import { Pool } from '../../src/daemon/threads/pool.ts';
import { HandedOutImages } from '../../src/store/handed-out.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { smallImage } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';

const [a, b] = ['a', 'b'].map((text) => verityDigest(Buffer.from(text))) as [never, never];
const owner = { user: 1000 };

function tableOf(...objects: readonly string[]): ObjectTable {
  const objectDigests = objects.map(() => undefined);
  return tabulate({ ...scanImage(smallImage({})), objects, objectDigests, objectSizes: objects.map(() => 0) })
    .objects;
}

describe.skipIf(needs('kernel', isRoot, 'only root has a service'))('records of what is handed out', () => {
  let state: string;
  let pool: Pool;
  let closing: Closing;
  let records: HandoutRecords;
  const faults: unknown[] = [];
  const onFault = (error: unknown): void => void faults.push(error);

  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), 'cfs-records-'));
    faults.length = 0;
    closing = new Closing({ threads: 1, idleThreads: 1 }, onFault);
    const threads = { threads: 4, threadsPerUser: 4, lostThreads: 4, waitingPerUser: 64 };
    pool = new Pool({ limits: { ...threads, stallMilliseconds: 60_000 }, closing, onBug: onFault });
    records = new HandoutRecords({ pool, stateDirectory: state, onFault });
  });

  afterEach(async () => {
    records.stop();
    await pool.stop();
    closing.stop();
    rmSync(state, { recursive: true, force: true });
  });

  const recorded = (): string[] => new HandedOutImages(state).read().flatMap(({ objects }) => objects);

  test('are on the disk once that is said, and nobody waits for them again', async () => {
    const [first, second] = [
      records.cover(a, tableOf('aa/1'), owner),
      records.cover(a, tableOf('aa/1'), owner),
    ];
    expect(first).toBeInstanceOf(Promise);
    expect(second).toBe(first);
    await first;
    expect(recorded()).toEqual(['aa/1']);
    expect(records.cover(a, tableOf('aa/1'), owner)).toBeUndefined();
  });

  test('of an earlier service are brought up to date', async () => {
    new HandedOutImages(state).record(a, 'aa/1\n', 1000);
    await records.cover(a, tableOf('aa/1'), owner);
    const [image] = new HandedOutImages(state).read();
    expect(image?.at).toBeGreaterThan(1000);
    expect(image?.objects).toEqual(['aa/1']);
  });

  test('that cannot be written are an error, each time', async () => {
    writeFileSync(join(state, 'handed-out'), 'no folder');
    await expect(records.cover(a, tableOf(), owner)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(records.cover(a, tableOf(), owner)).rejects.toMatchObject({ code: 'ENOTDIR' });
    rmSync(join(state, 'handed-out'));
    await records.cover(a, tableOf('aa/1'), owner);
    expect(recorded()).toEqual(['aa/1']);
  });

  test('that nobody needs are gone soon after a service begins', async () => {
    const earlier = new HandedOutImages(state);
    earlier.record(a, 'aa/1\n', 1000);
    await records.cover(b, tableOf('bb/1'), owner);
    const left = join(state, 'handed-out', `.tmp-1-${digestHex(a)}`);
    writeFileSync(left, 'half');
    records.beginPruning();
    const names = (): string[] => readdirSync(join(state, 'handed-out'));
    await expect.poll(names, { timeout: 60_000 }).toEqual([digestHex(b)]);
    expect(faults).toEqual([]);
  });
});
