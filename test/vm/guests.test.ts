import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { isRoot, needs } from '../support/needs.ts';
import type { Finding } from './guest/findings.ts';
import { formatTable, withTable, type KernelRun } from './kernel-table.ts';

const checkout = resolve(import.meta.dirname, '../..');

const kernels = ['bookworm', 'trixie', 'forky', 'uml'] as const;

interface GuestOptions {
  readonly kernel: (typeof kernels)[number];
  /** Hard limit for the whole guest. */
  readonly seconds: number;
}

/** Runs a command in a guest and passes its output on as it comes; returns its exit status and all it printed. */
async function inGuest(
  options: GuestOptions,
  command: readonly string[],
): Promise<{ status: number | null; output: string }> {
  const guest = spawn(
    resolve(checkout, 'test/vm/run.sh'),
    [
      '--kernel',
      options.kernel,
      '--timeout',
      String(options.seconds),
      '--env',
      'CFS_TEST_REQUIRE',
      '--',
      ...command,
    ],
    {
      cwd: checkout,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, CFS_TEST_REQUIRE: 'kernel', NO_COLOR: '1' },
    },
  );
  let output = '';
  for (const stream of [guest.stdout, guest.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      process.stdout.write(text.replace(/^(?=.)/gm, `[${options.kernel}] `));
    });
  }
  await once(guest, 'close');
  // What CI sets may have turned colours on.
  return { status: guest.exitCode, output: stripVTControlCharacters(output) };
}

function vitest(project: string, ...parameters: string[]): string[] {
  return [
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    '--no-file-parallelism',
    '--project',
    project,
    '--test-timeout',
    '600000',
    '--hook-timeout',
    '600000',
    ...parameters,
  ];
}

/** The files that test/support/skips-reporter.ts lists as failed. */
function failedFiles(output: string): string[] {
  const list = /^Failed test files:\r?\n((?: .*\n)+)/m.exec(output)?.[1] ?? '';
  return list.split('\n').flatMap((line) => line.trim() || []);
}

/**
 * Runs a project's tests in user-mode Linux. In an emulated machine a process may be given so little time that a test's
 * patience ends: files that failed get one more try, alone in a new machine, and are named aloud.
 */
async function testsInGuest(project: string, ...parameters: string[]): Promise<void> {
  const first = await inGuest({ kernel: 'uml', seconds: 1500 }, vitest(project, ...parameters));
  if (first.status === 0) return;
  const files = failedFiles(first.output);
  const report = first.output.slice(first.output.search(/ Failed (?:Tests|Suites) /)).slice(0, 8000);
  if (files.length === 0 || files.length > 3) {
    expect.fail(`the ${project} tests ended with status ${first.status}:\n${report}`);
  }
  console.log(`Failed in a machine, and tried once more in a new one: ${files.join(', ')}\n${report}`);
  const second = await inGuest({ kernel: 'uml', seconds: 900 }, vitest(project, ...files));
  expect(second.status, `${files.join(', ')} failed twice; the first time:\n${report}`).toBe(0);
}

describe.skipIf(needs('vm', isRoot, 'virtual machines are started by root'))(
  'user-mode Linux, with fs-verity',
  () => {
    const kernel = 'uml';

    test('the demo, every object checked by the kernel', async () => {
      const { status, output } = await inGuest({ kernel, seconds: 300 }, [
        process.execPath,
        'dist/demo/demo.js',
      ]);
      expect(output).not.toContain('no fs-verity here');
      expect(status).toBe(0);
    });

    test('what only a kernel with fs-verity can show', async () => {
      await testsInGuest('verity');
    });

    // Two machines at once, each with half of the files: one of them hardly uses more than one processor.
    test('the kernel tests', async () => {
      await Promise.all([testsInGuest('kernel', '--shard=1/2'), testsInGuest('kernel', '--shard=2/2')]);
    });
  },
);

describe.skipIf(needs('vm', isRoot, 'virtual machines are started by root'))(
  'every image source at every level',
  () => {
    const runs = new Map<string, KernelRun>();

    beforeAll(() => {
      const compiler = resolve(checkout, 'node_modules/typescript/bin/tsc');
      const { status } = spawnSync(process.execPath, [compiler, '-p', 'test/vm/guest'], {
        cwd: checkout,
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      expect(status).toBe(0);
    });

    test.each(kernels)(
      '%s: attributes bind, an overlay can lie on top, and no loop device stays',
      { retry: 1 },
      async (kernel) => {
        const { status, output } = await inGuest({ kernel, seconds: 600 }, [
          process.execPath,
          '.cache/guest/test/vm/guest/mounts.js',
        ]);
        expect(status).toBe(0);
        const findings = output
          .split('\n')
          .filter((line) => line.startsWith('{"finding"'))
          .map((line) => JSON.parse(line) as Finding);
        runs.set(kernel, { kernel, findings });
        const receivers = findings.filter((finding) => finding.finding === 'receiver');
        expect(receivers.length).toBeGreaterThan(0);
        for (const receiver of receivers) {
          expect(receiver).toMatchObject({ attempts: 16, refused: 16, overlay: true });
        }
        // A file swapped behind a mount is refused where every file is to be checked.
        const checked = findings.filter(
          (finding) =>
            finding.finding === 'cell' && finding.level === 'require' && finding.swapped !== undefined,
        );
        for (const cell of checked) expect(cell).toMatchObject({ swapped: 'EIO' });
        expect(findings.at(-1)).toEqual({ finding: 'left', loopFiles: [] });
      },
    );

    // CFS_WRITE_TABLE=1 writes it instead.
    test('the README says what was found', () => {
      const path = resolve(checkout, 'README.md');
      const table = formatTable([...runs.values()]);
      process.stdout.write(`${table}\n`);
      const text = readFileSync(path, 'utf8');
      if (process.env['CFS_WRITE_TABLE'] !== undefined) writeFileSync(path, withTable(text, table));
      else expect(text).toBe(withTable(text, table));
    });
  },
);
