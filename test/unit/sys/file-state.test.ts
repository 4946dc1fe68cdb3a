import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { FileState } from '../../../src/sys/file-state.ts';

function place(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cfs-file-state-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

const changes: readonly (readonly [string, (path: string) => void])[] = [
  [
    'written',
    (path) => {
      writeFileSync(path, 'something longer');
    },
  ],
  [
    'another owner’s mode',
    (path) => {
      chmodSync(path, 0o666);
    },
  ],
  [
    'touched',
    (path) => {
      utimesSync(path, 1, 1);
    },
  ],
  [
    'gone',
    (path) => {
      rmSync(path);
    },
  ],
  [
    'replaced by the same content',
    (path) => {
      writeFileSync(`${path}.new`, 'content');
      renameSync(`${path}.new`, path);
    },
  ],
  [
    'replaced by a link to the same file',
    (path) => {
      renameSync(path, `${path}.old`);
      symlinkSync(`${path}.old`, path);
    },
  ],
];

test.each(changes)('a file that was %s is no longer current', (_name, change) => {
  const path = join(place(), 'file');
  writeFileSync(path, 'content');
  const state = new FileState(path, { follow: false });
  expect(state.isCurrent()).toBe(true);
  change(path);
  expect(state.isCurrent()).toBe(false);
});

test('a folder is followed, and is current until what is in it changes', () => {
  const folder = place();
  mkdirSync(join(folder, 'one'));
  mkdirSync(join(folder, 'two'));
  symlinkSync('one', join(folder, 'link'));
  const state = new FileState(join(folder, 'link'), { follow: true });
  expect(state.isCurrent()).toBe(true);
  writeFileSync(join(folder, 'one', 'new'), '');
  expect(state.isCurrent()).toBe(false);
  const other = new FileState(join(folder, 'link'), { follow: true });
  rmSync(join(folder, 'link'));
  symlinkSync('two', join(folder, 'link'));
  expect(other.isCurrent()).toBe(false);
});

test('nothing is current until something is there', () => {
  const path = join(place(), 'absent');
  const state = new FileState(path, { follow: false });
  expect(state.changedAtMilliseconds).toBeUndefined();
  expect(state.isCurrent()).toBe(true);
  writeFileSync(path, '');
  expect(state.isCurrent()).toBe(false);
});

test('a path that cannot be looked at is never current', () => {
  const path = join(place(), 'loop');
  symlinkSync('loop', path);
  expect(new FileState(path, { follow: true }).isCurrent()).toBe(false);
});
