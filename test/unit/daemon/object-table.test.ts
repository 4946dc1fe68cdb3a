import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { digestHex, type Digest } from '../../../src/base/digest.ts';
import {
  bytesOf,
  hasSize,
  objectsOf,
  pathAt,
  pathsOf,
  placeOf,
  tabulate,
  type ObjectTable,
} from '../../../src/daemon/threads/object-table.ts';
import { HandoutRecords } from '../../../src/daemon/mounts/handout-records.ts';
import { perform } from '../../../src/daemon/threads/perform.ts';
import type { Pool } from '../../../src/daemon/threads/pool.ts';
import { objectPath } from '../../../src/store/objects.ts';
import { verityDigest } from '../../../src/verity/verity.ts';

const digestOf = (index: number): Digest => verityDigest(Buffer.from(String(index)));

/** As a scan of an image with `count` objects says it: in the order of the image's folders. */
function tableOf(count: number): { readonly table: ObjectTable; readonly paths: readonly string[] } {
  const digests = Array.from({ length: count }, (_, index) => digestOf(index));
  // Every third has the name that OSTree gives it, and no digest of its own.
  const bare = (index: number): boolean => index % 3 === 0;
  const paths = digests.map((digest, index) => `${objectPath(digest)}${bare(index) ? '.file' : ''}`);
  const scan = tabulate({
    fileSystem: 'composefs',
    formatVersion: 1,
    devices: false,
    devicePath: undefined,
    objects: paths,
    objectDigests: digests.map((digest, index) => (bare(index) ? undefined : digest)),
    objectSizes: digests.map((_, index) => (index % 7) * 1000),
    missingDigest: true,
    bytes: 4096,
    inodes: 1,
  });
  return { table: scan.objects, paths };
}

test('a table says of the objects what the scan says, ordered by path', () => {
  const { table, paths } = tableOf(100);
  expect(pathsOf(table)).toEqual([...paths].sort());
  for (const [index, path] of paths.entries()) {
    const place = placeOf(table, path);
    expect(pathAt(table, place)).toBe(path);
    const [object] = objectsOf(table, place, place + 1);
    expect(object).toEqual({ path, digest: index % 3 === 0 ? undefined : digestOf(index) });
  }
  expect(placeOf(table, objectPath(digestOf(100)))).toBe(-1);
  expect(hasSize(table, 6000)).toBe(true);
  expect([-1, 500, 7000].some((size) => hasSize(table, size))).toBe(false);
  expect([...objectsOf(tableOf(0).table, 0, 0)]).toEqual([]);
});

test('a message to another thread shares the table and copies nothing of it', () => {
  const { table } = tableOf(50);
  const received = structuredClone(table);
  table.paths.fill(0x61, 0, 2);
  expect(pathAt(received, 0).slice(0, 2)).toBe('aa');
  expect(bytesOf(received)).toBe(50 * 102 + 7 * 8);
});

test('a record of what is handed out is written of the table on a thread', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cfs-record-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  const tasks: unknown[] = [];
  const run: Pool['run'] = (task, fds) => {
    tasks.push(task.kind);
    return Promise.resolve(perform(task, fds, () => expect.fail('no stage is needed')) as never);
  };
  const onFault = (error: unknown): void => expect.fail(String(error));
  const records = new HandoutRecords({ pool: { run }, stateDirectory: folder, onFault });
  const { table, paths } = tableOf(5000);
  const image = digestOf(-1);
  await records.cover(image, table, { user: 1 });
  expect(tasks).toEqual(['renewRecord', 'record']);
  const written = readFileSync(join(folder, 'handed-out', digestHex(image)), 'latin1');
  expect(written).toBe(
    [...paths]
      .sort()
      .map((path) => `${path}\n`)
      .join(''),
  );
});
