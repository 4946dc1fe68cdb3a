import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const program = resolve(import.meta.dirname, '../../dist/cli/cfs-mountctl.cjs');

test('keygen leaves no half key where not a byte can be written', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cfs-keygen-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  // As on a full disk: no file may become longer than nothing (getrlimit(2), RLIMIT_FSIZE).
  const script = 'trap "" XFSZ; ulimit -f 0; exec "$@"';
  const keygen = [process.execPath, program, 'keygen', '--output', join(folder, 'key')];
  const done = spawnSync('sh', ['-c', script, 'sh', ...keygen], { encoding: 'utf8' });
  expect(done.stderr).toMatch(/^cfs-mountctl: .*key: EFBIG\n$/);
  expect(done.status).toBe(1);
  expect(readdirSync(folder)).toEqual([]);
});
