import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { isRoot, needs } from '../support/needs.ts';
import { levels, sources, type Finding } from './guest/findings.ts';
import { formatTable, withTable, type KernelRun } from './kernel-table.ts';

const checkout = resolve(import.meta.dirname, '../..');

const kernels = ['bookworm', 'trixie', 'forky', 'uml'] as const;

interface GuestOptions {
  readonly kernel: (typeof kernels)[number];
  /** Hard limit for the whole guest. */
  readonly seconds: number;
  /** What the lines of its output begin with; its kernel's name unless told. */
  readonly label?: string;
}

/** One guest hardly uses more than one processor: so many run at once. */
const guestsAtOnce = 2;
let guestsRunning = 0;
const waiting: (() => void)[] = [];

/** Runs a command in a guest, when its turn comes, and passes its output on; returns its exit status and all it printed. */
async function inGuest(
  options: GuestOptions,
  command: readonly string[],
): Promise<{ status: number | null; output: string }> {
  while (guestsRunning >= guestsAtOnce) await new Promise<void>((resume) => waiting.push(resume));
  guestsRunning += 1;
  try {
    return await runGuest(options, command);
  } finally {
    guestsRunning -= 1;
    waiting.shift()?.();
  }
}

async function runGuest(
  { kernel, seconds, label = kernel }: GuestOptions,
  command: readonly string[],
): Promise<{ status: number | null; output: string }> {
  const options = ['--kernel', kernel, '--timeout', String(seconds), '--env', 'CFS_TEST_REQUIRE'];
  const guest = spawn(resolve(checkout, 'test/vm/run.sh'), [...options, '--', ...command], {
    cwd: checkout,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CFS_TEST_REQUIRE: 'kernel' },
  });
  let output = '';
  for (const stream of [guest.stdout, guest.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      process.stdout.write(text.replace(/^(?=.)/gm, `[${label}] `));
    });
  }
  await once(guest, 'close');
  // What CI sets may have turned colours on.
  return { status: guest.exitCode, output: stripVTControlCharacters(output) };
}

function findingsOf(output: string): Finding[] {
  return output
    .split('\n')
    .filter((line) => line.startsWith('{"finding"'))
    .map((line) => JSON.parse(line) as Finding);
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
  const label = ['uml', project, ...parameters].join(' ');
  const first = await inGuest({ kernel: 'uml', seconds: 1500, label }, vitest(project, ...parameters));
  if (first.status === 0) return;
  const files = failedFiles(first.output);
  const report = first.output.slice(first.output.search(/ Failed (?:Tests|Suites) /)).slice(0, 8000);
  if (files.length === 0 || files.length > 3) {
    expect.fail(`the ${project} tests ended with status ${first.status}:\n${report}`);
  }
  console.log(`Failed in a machine, and tried once more in a new one: ${files.join(', ')}\n${report}`);
  const second = await inGuest(
    { kernel: 'uml', seconds: 900, label: `${label}, again` },
    vitest(project, ...files),
  );
  expect(second.status, `${files.join(', ')} failed twice; the first time:\n${report}`).toBe(0);
}

const refused = needs('vm', isRoot, 'virtual machines are started by root');

describe.skipIf(refused)('in virtual machines', { concurrent: true }, () => {
  // The longest first.
  test.each(['--shard=1/2', '--shard=2/2'])('the kernel tests, user-mode Linux %s', async (shard) => {
    await testsInGuest('kernel', shard);
  });

  test('what only a kernel with fs-verity can show, user-mode Linux', async () => {
    await testsInGuest('verity');
  });

  test('the demo, every object checked by the kernel, user-mode Linux', async () => {
    const demo = [process.execPath, 'dist/demo/demo.js'];
    const { status, output } = await inGuest({ kernel: 'uml', seconds: 300, label: 'uml demo' }, demo);
    expect(output).not.toContain('no fs-verity here');
    expect(status).toBe(0);
  });

  const runs = new Map<string, KernelRun>();
  const program = [process.execPath, '.cache/guest/test/vm/guest/mounts.js'];

  beforeAll(() => {
    const compiler = resolve(checkout, 'node_modules/typescript/bin/tsc');
    const { status } = spawnSync(process.execPath, [compiler, '-p', 'test/vm/guest'], {
      cwd: checkout,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    expect(status).toBe(0);
  });

  test.each(kernels)(
    'every image source at every level, %s: attributes bind, an overlay can lie on top, and no loop device stays',
    { retry: 1 },
    async (kernel) => {
      const { status, output } = await inGuest({ kernel, seconds: 900 }, program);
      expect(status).toBe(0);
      const findings = findingsOf(output);
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

  // User-mode Linux has no btrfs; Debian's kernels have it as a module.
  test('every image source at every level, images and stores on btrfs, forky', { retry: 1 }, async () => {
    const { status, output } = await inGuest({ kernel: 'forky', seconds: 900, label: 'forky, btrfs' }, [
      'test/vm/guest/on-btrfs.sh',
      ...program,
      'composefs',
    ]);
    expect(status).toBe(0);
    const findings = findingsOf(output);
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
    expect(findings.at(-1)).toEqual({ finding: 'left', loopFiles: [] });
  });

  // After the others. CFS_WRITE_TABLE=1 writes it instead.
  test('the README says what was found', { concurrent: false }, () => {
    const path = resolve(checkout, 'README.md');
    const table = formatTable(kernels.flatMap((kernel) => runs.get(kernel) ?? []));
    process.stdout.write(`${table}\n`);
    const text = readFileSync(path, 'utf8');
    if (process.env['CFS_WRITE_TABLE'] !== undefined) writeFileSync(path, withTable(text, table));
    else expect(text).toBe(withTable(text, table));
  });
});
