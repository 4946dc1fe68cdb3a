import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, release } from 'node:os';
import { join, resolve } from 'node:path';
import { Random } from '../support/random.ts';
import { median, replaceSection, table } from './figures.ts';

/**
 * Building, hashing and reading images beside the C tools on the same files, and how time and memory grow with the number
 * of files. Writes its part of test/bench/RESULTS.md. Usage: `npm run bench:images -- [FILES [LARGEST NUMBER OF FILES]]`.
 * Needs Debian sid's composefs tools (test/interop/setup.sh) and fsverity. Programs take turns; medians count.
 */
const files = Number(process.argv[2] ?? '30000');
const most = Number(process.argv[3] ?? '300000');
const threads = availableParallelism();
/** Enough for a dump's image of 10 MB. */
const dumpedFiles = 40_000;

// npm runs scripts in the project's folder; what is compiled here lies elsewhere.
const tool = [process.execPath, resolve(process.cwd(), 'dist/cli/cfs-mountctl.cjs')];
const sidFolder = resolve(process.cwd(), '.cache/sid');
const libraries = `${sidFolder}/usr/lib/x86_64-linux-gnu`;
const loader = [`${sidFolder}/usr/lib64/ld-linux-x86-64.so.2`, '--library-path', libraries];

interface Cost {
  readonly seconds: number;
  /** Time of processors, all threads together, the kernel's included. */
  readonly cpuSeconds: number;
  /** Most memory of the process, in MB. */
  readonly megabytes: number;
}

function sidProgram(name: string, ...parameters: readonly string[]): readonly string[] {
  return [...loader, `${sidFolder}/usr/bin/${name}`, ...parameters];
}

/** Runs a program; a small one of Python's measures what it takes. */
function measure(command: readonly string[]): Cost {
  const script =
    'import os,resource,subprocess,sys,time\n' +
    't=time.monotonic()\n' +
    'code=subprocess.call(sys.argv[1:],stdout=subprocess.DEVNULL)\n' +
    't=time.monotonic()-t\n' +
    'r=resource.getrusage(resource.RUSAGE_CHILDREN)\n' +
    'print(t,r.ru_utime+r.ru_stime,r.ru_maxrss/1024)\n' +
    'sys.exit(code)';
  const { status, stdout } = spawnSync('python3', ['-c', script, ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`failed: ${command.join(' ')}`);
  const [seconds = 0, cpuSeconds = 0, megabytes = 0] = stdout.trim().split(' ').map(Number);
  return { seconds, cpuSeconds, megabytes };
}

function middle(costs: readonly Cost[]): Cost {
  return {
    seconds: median(costs.map(({ seconds }) => seconds)),
    cpuSeconds: median(costs.map(({ cpuSeconds }) => cpuSeconds)),
    megabytes: median(costs.map(({ megabytes }) => megabytes)),
  };
}

function cells({ seconds, cpuSeconds, megabytes }: Cost): string[] {
  return [`${seconds.toFixed(2)} s`, `${cpuSeconds.toFixed(2)} s`, `${megabytes.toFixed(0)} MB`];
}

/** Lets both take turns, and says what each takes. `own` is taken from the times of ours: what Node needs to start. */
function compare(
  name: string,
  rounds: number,
  ours: () => Cost,
  theirs: () => Cost,
  own?: Cost,
): readonly string[] {
  const [a, b]: [Cost[], Cost[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    b.push(theirs());
    a.push(ours());
  }
  const [mine, other] = [middle(a), middle(b)];
  const ratios = [
    (mine.seconds - (own?.seconds ?? 0)) / other.seconds,
    (mine.cpuSeconds - (own?.cpuSeconds ?? 0)) / other.cpuSeconds,
    mine.megabytes / other.megabytes,
  ];
  return [name, ...cells(mine), ...cells(other), ...ratios.map((ratio) => `${ratio.toFixed(2)} ×`)];
}

/** `count` files of mostly small sizes, some of them alike, in folders of a few dozen. */
function makeFiles(folder: string, count: number): void {
  const random = new Random(count);
  for (let index = 0; index < count; index++) {
    const directory = join(folder, `${Math.floor(index / 900)}`, `${Math.floor(index / 30)}`);
    if (index % 30 === 0) mkdirSync(directory, { recursive: true });
    const size = Math.min(
      Math.floor(300 / (random.below(10_000) + 1) ** 1.1) * 1000 + random.below(9000),
      400_000,
    );
    writeFileSync(join(directory, `file-${index}`), Buffer.alloc(size, `${index} of ${count} `));
  }
}

const folder = mkdtempSync(join(process.env['TMPDIR'] ?? '/var/tmp', 'cfs-bench-images-'));
const at = (name: string): string => join(folder, name);

/** The filesystem that all lies on: on one that keeps nothing, such as tmpfs, no disk is waited for. */
function fileSystem(): string {
  return spawnSync('stat', ['--file-system', '--format=%T', folder], { encoding: 'utf8' }).stdout.trim();
}

function ours(source: string, store: string): Cost {
  return measure([
    ...tool,
    'build',
    source,
    '--store',
    store,
    '-o',
    at('our.image'),
    '--threads',
    `${threads}`,
  ]);
}

function theirs(source: string, store: string): Cost {
  const options = [`--digest-store=${store}`, `--threads=${threads}`, '--min-version=1'];
  return measure(sidProgram('mkcomposefs', ...options, source, at('their.image')));
}

function emptied(store: string): string {
  rmSync(store, { recursive: true, force: true });
  mkdirSync(store);
  return store;
}

/** An image of `dumpedFiles` files, made of a dump. */
function makeDumpedImage(output: string): string {
  const lines = Array.from({ length: dumpedFiles }, (_, index) => {
    const hex = createHash('sha256').update(`${index}`).digest('hex');
    const path = `${hex.slice(0, 2)}/${hex.slice(2)}`;
    return `/file-${index} 5000 100644 1 0 0 0 1700000000.${index} ${path} - ${hex}\n`;
  });
  const dump = at('dumped.dump');
  writeFileSync(dump, ['/ 4096 40755 2 0 0 0 1700000000.0 - - -\n', ...lines].join(''));
  measure([...tool, 'build', '--from-file', dump, '-o', output]);
  return `${(statSync(output).size / 1e6).toFixed(1)} MB`;
}

function beside(): string {
  const source = at('tree');
  makeFiles(source, files);
  const starts = [1, 2, 3, 4, 5].map(() => measure([process.execPath, '-e', '']));
  const start = middle(starts);
  const [a, b] = [at('our-store'), at('their-store')];
  const rows = [
    compare(
      `build, ${files} files, empty store`,
      3,
      () => ours(source, emptied(a)),
      () => theirs(source, emptied(b)),
    ),
    compare(
      `build, ${files} files, full store`,
      9,
      () => ours(source, a),
      () => theirs(source, b),
    ),
  ];
  if (!readFileSync(at('our.image')).equals(readFileSync(at('their.image'))))
    throw new Error('images differ');
  writeFileSync(at('large'), '');
  for (let index = 0; index < 16; index++)
    writeFileSync(at('large'), Buffer.alloc(2 ** 26, `${index} `), { flag: 'a' });
  rows.push(
    compare(
      'digest, 1 GiB',
      7,
      () => measure([...tool, 'digest', at('large')]),
      () => measure(['fsverity', 'digest', at('large')]),
    ),
  );
  const dumped = at('dumped.image');
  rows.push(
    compare(
      `dump, ${makeDumpedImage(dumped)}; ratios of times without Node’s start`,
      9,
      () => measure([...tool, 'dump', dumped]),
      () => measure(sidProgram('composefs-info', 'dump', dumped)),
      start,
    ),
  );
  const [seconds, cpuSeconds] = cells(start);
  const head = ['time', 'processors', 'memory'];
  return [
    `Linux ${release()}, Node ${process.version}, ${threads} processors and as many threads, on ${fileSystem()}; the load was ` +
      `${loadavg()[0]?.toFixed(1) ?? ''} at the end. Medians; Node’s own start, \`node -e ''\`, takes ${seconds ?? ''} ` +
      `(${cpuSeconds ?? ''} of processors). Ours first, then the C tools, then the ratios of ours to theirs.`,
    table([['', ...head, ...head, ...head], ...rows]),
  ].join('\n\n');
}

function growth(): string {
  const rows = [1000, 10_000, 30_000, 100_000, 300_000]
    .filter((count) => count <= most)
    .map((count) => {
      const source = at(`grown-${count}`);
      makeFiles(source, count);
      const store = emptied(at('grown-store'));
      const [first, again] = [ours(source, store), ours(source, store)];
      const other = theirs(source, store);
      rmSync(source, { recursive: true });
      return [`${count}`, ...cells(first), ...cells(again), ...cells(other)];
    });
  const head = ['time', 'processors', 'memory'];
  return [
    'How it grows with the number of files: into an empty store, into the full one, and mkcomposefs into the full one.',
    table([['files', ...head, ...head, ...head], ...rows]),
  ].join('\n\n');
}

try {
  const text = ['Images, beside the C tools of composefs and fs-verity.', beside(), growth()].join('\n\n');
  const results = resolve(process.cwd(), 'test/bench/RESULTS.md');
  writeFileSync(results, replaceSection(readFileSync(results, 'utf8'), 'images', text));
  console.log(text);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
