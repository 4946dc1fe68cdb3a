import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { memoryIsShort } from '../../../src/daemon/memory-pressure.ts';

test('memory is short where somebody had to wait for it for more than a tenth of the time', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cfs-pressure-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  const path = join(folder, 'memory');
  const full = 'full avg10=90.00 avg60=0.00 avg300=0.00 total=0\n';
  const short = (some: string): boolean => {
    writeFileSync(path, `some avg10=${some} avg60=99.00 avg300=99.00 total=1\n${full}`);
    return memoryIsShort(path);
  };
  expect(short('0.00')).toBe(false);
  expect(short('10.00')).toBe(false);
  expect(short('10.01')).toBe(true);
  expect(short('87.50')).toBe(true);
  // A kernel that tells nothing.
  expect(memoryIsShort(join(folder, 'nothing'))).toBe(false);
});
