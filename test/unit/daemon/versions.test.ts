import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../src/daemon/callers/limits.ts';
import { StateInUse, Versions } from '../../../src/daemon/versions.ts';
import { formatVersionsFile } from '../../../src/policy/versions-file.ts';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'cfs-versions-'));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

test('what was recorded is there after a restart', async () => {
  const state = folder();
  const first = new Versions(state);
  expect(first.newest('rule', 'app')).toBeUndefined();
  await first.record('rule', 'app', 3);
  await first.record('other rule', 'app', 1);
  expect(first.record('rule', 'app', 3)).toBeUndefined();
  await first.close();
  const second = new Versions(state);
  expect(second.newest('rule', 'app')).toBe(3);
  expect(second.newest('other rule', 'app')).toBe(1);
  await second.close();
});

test('many at once are all on the disk once their promises resolve', async () => {
  const state = folder();
  const versions = new Versions(state);
  const recording = Array.from({ length: 50 }, async (_, index) => {
    await versions.record('rule', `app-${index}`, index);
  });
  await Promise.all(recording);
  const lines = readFileSync(join(state, 'versions.jsonl'), 'utf8').trimEnd().split('\n');
  expect(lines).toHaveLength(50);
  // A record that comes while it is written already waits for that.
  const writing = versions.record('rule', 'app', 7);
  await versions.record('rule', 'app', 7);
  expect(readFileSync(join(state, 'versions.jsonl'), 'utf8')).toContain('"app","version":7');
  await writing;
  await versions.close();
});

test('an older version than the newest is refused, also when both come at once', async () => {
  const versions = new Versions(folder());
  const newer = versions.record('rule', 'app', 2);
  await expect(versions.record('rule', 'app', 1)).rejects.toMatchObject({
    name: 'io.cfsmountd.MountDelegation.RolledBack',
    parameters: { name: 'app', version: 1, newest: 2 },
  });
  await newer;
  expect(versions.newest('rule', 'app')).toBe(2);
  await versions.close();
});

test('a stop at any moment leaves the old file or the new one', async () => {
  const state = folder();
  const versions = new Versions(state);
  await versions.record('rule', 'app', 1);
  await versions.close();
  // What a stop in the middle of a later write leaves: part of the temporary file.
  writeFileSync(join(state, 'versions.jsonl.new'), '{"rule":"rule","na');
  const again = new Versions(state);
  expect(again.newest('rule', 'app')).toBe(1);
  await again.record('rule', 'app', 2);
  expect(existsSync(join(state, 'versions.jsonl.new'))).toBe(false);
  await again.close();
});

test('what the disk did not take counts as unrecorded, and is written the next time', async () => {
  const state = folder();
  const versions = new Versions(state);
  rmSync(state, { recursive: true });
  await expect(versions.record('rule', 'app', 1)).rejects.toThrow('ENOENT');
  await expect(versions.record('rule', 'app', 1)).rejects.toThrow('ENOENT');
  mkdirSync(state);
  await versions.record('rule', 'app', 1);
  expect(readFileSync(join(state, 'versions.jsonl'), 'utf8')).toContain('"version":1');
  expect(versions.record('rule', 'app', 1)).toBeUndefined();
  await versions.close();
});

test('a damaged file is no empty one', () => {
  const state = folder();
  writeFileSync(join(state, 'versions.jsonl'), '{"rule":"rule","name":"app","version":1');
  expect(() => new Versions(state)).toThrow(/cut off/);
  // It stays so, and says which file it is and how to get out of it.
  expect(() => new Versions(state)).toThrow(/versions\.jsonl: line 1: .*Restore it from a backup/);
});

test('one daemon at a time', async () => {
  const state = folder();
  const first = new Versions(state);
  expect(() => new Versions(state)).toThrow(StateInUse);
  await first.close();
  await new Versions(state).close();
});

test('a rule remembers so many names and forgets none for another', async () => {
  const state = folder();
  const lines = Array.from({ length: limits.versionsPerRule }, (_, index) => {
    return { rule: 'rule', name: `app-${index}`, version: 1 };
  });
  writeFileSync(join(state, 'versions.jsonl'), formatVersionsFile(lines), { mode: 0o600 });
  const versions = new Versions(state);
  await expect(versions.record('rule', 'one-more', 1)).rejects.toMatchObject({
    name: 'io.cfsmountd.MountDelegation.LimitExceeded',
    parameters: { limit: 'versionsPerRule', value: limits.versionsPerRule },
  });
  expect(versions.newest('rule', 'one-more')).toBeUndefined();
  await versions.record('rule', 'app-0', 2);
  await versions.record('other rule', 'one-more', 1);
  expect(versions.newest('rule', 'app-0')).toBe(2);
  await versions.close();
});
