import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { isRoot, needs } from '../support/needs.ts';
import { levels, sources, type Finding } from './guest/findings.ts';

const checkout = resolve(import.meta.dirname, '../..');

function run(program: string, ...parameters: readonly string[]): { status: number | null; stdout: string } {
  return spawnSync(program, parameters, {
    cwd: checkout,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

// User-mode Linux has no btrfs; Debian's kernels have it as a module.
test.skipIf(needs('vm', isRoot, 'virtual machines are started by root'))(
  'images and stores on btrfs, on forky: every source at every level',
  () => {
    expect(run(process.execPath, 'node_modules/typescript/bin/tsc', '-p', 'test/vm/guest').status).toBe(0);
    const guest = [
      'test/vm/guest/on-btrfs.sh',
      process.execPath,
      '.cache/guest/test/vm/guest/mounts.js',
      'composefs',
    ];
    const { status, stdout } = run('test/vm/run.sh', '--kernel', 'forky', '--timeout', '600', '--', ...guest);
    process.stdout.write(stdout.replace(/^(?=.)/gm, '[forky, btrfs] '));
    expect(status).toBe(0);
    const findings = stdout
      .split('\n')
      .filter((line) => line.startsWith('{"finding"'))
      .map((line) => JSON.parse(line) as Finding);
    expect(findings[0]).toMatchObject({
      finding: 'kernel',
      features: { fsVerity: true, erofsFromFile: true },
    });
    const cells = findings.filter((finding) => finding.finding === 'cell');
    expect(cells).toHaveLength(sources.length * levels.length);
    for (const cell of cells) {
      const swapped = cell.level === 'require' ? 'EIO' : 'opened';
      expect(cell).toMatchObject({ image: 'composefs', outcome: 'mounted', swapped });
    }
    const receivers = findings.filter((finding) => finding.finding === 'receiver');
    expect(receivers).toMatchObject([{ attempts: 16, refused: 16, overlay: true }]);
  },
);
