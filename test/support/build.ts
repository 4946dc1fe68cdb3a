import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

/** Builds `dist` once before all tests: those that start the programs run what is built. */
export default function build(): void {
  // A virtual machine runs what its host has built.
  if (process.env['CFS_VM'] !== undefined) return;
  const result = spawnSync('npm', ['run', '--silent', 'build'], {
    cwd: resolve(import.meta.dirname, '../..'),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  // Emitted all the same: types are what `npm run check` answers for.
  if (result.status !== 0) console.error('The build found errors; the tests run what it wrote.');
}
