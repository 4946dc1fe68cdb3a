import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { verityDigest } from '../../src/verity/verity.ts';
import { needs } from '../support/needs.ts';

const installed = spawnSync('fsverity', ['--version']).status === 0;

describe.skipIf(needs('interop', installed, 'fsverity (fsverity-utils) is not installed'))(
  'fsverity digest',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfs-fsverity-'));
    afterAll(() => {
      rmSync(folder, { recursive: true });
    });

    test.each([0, 1, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3_000_000])(
      'agrees on %i bytes',
      (size) => {
        const bytes = Buffer.alloc(size, 'some bytes that repeat');
        const path = join(folder, `${size}`);
        writeFileSync(path, bytes);
        const { stdout } = spawnSync('fsverity', ['digest', '--compact', path], { encoding: 'utf8' });
        expect(verityDigest(bytes)).toBe(`sha256:${stdout.trim()}`);
      },
    );
  },
);
