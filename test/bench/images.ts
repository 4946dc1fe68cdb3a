import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { Random } from '../support/random.ts';

/**
 * Building, hashing and reading images beside the C tools on the same files, and how time and memory grow with the number
 * of files. Usage: `npm run bench:images -- [FILES [LARGEST NUMBER OF FILES]]`. Needs Debian sid's composefs tools
 * (test/interop/setup.sh) and fsverity; programs take turns, and of each the best of three rounds counts.
 */
const files = Number(process.argv[2] ?? '30000');
const most = Number(process.argv[3] ?? '300000');
const rounds = 3;
const threads = availableParallelism();

// npm runs scripts in the project's folder; what is compiled here lies elsewhere.
const tool = [process.execPath, resolve(process.cwd(), 'dist/cli/cfs-mountctl.cjs')];
const sidFolder = resolve(process.cwd(), '.cache/sid');
const libraries = `${sidFolder}/usr/lib/x86_64-linux-gnu`;
const loader = [`${sidFolder}/usr/lib64/ld-linux-x86-64.so.2`, '--library-path', libraries];

interface Cost {
  readonly seconds: number;
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
    'print(t,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024)\n' +
    'sys.exit(code)';
  const { status, stdout } = spawnSync('python3', ['-c', script, ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`failed: ${command.join(' ')}`);
  const [seconds = 0, megabytes = 0] = stdout.trim().split(' ').map(Number);
  return { seconds, megabytes };
}

function best(costs: readonly Cost[]): Cost {
  return {
    seconds: Math.min(...costs.map(({ seconds }) => seconds)),
    megabytes: Math.min(...costs.map(({ megabytes }) => megabytes)),
  };
}

function figures({ seconds, megabytes }: Cost): string {
  return `${seconds.toFixed(2).padStart(8)} s ${megabytes.toFixed(0).padStart(5)} MB`;
}

/** Lets both take turns and prints the best of each. `own` is taken from ours: what Node needs to start. */
function compare(name: string, ours: () => Cost, theirs: () => Cost, own = 0): void {
  const [a, b]: [Cost[], Cost[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    b.push(theirs());
    a.push(ours());
  }
  const [mine, other] = [best(a), best(b)];
  const time = (mine.seconds - own) / other.seconds;
  const memory = mine.megabytes / other.megabytes;
  console.log(
    `${name.padEnd(34)}${figures(mine)}${figures(other)}   ${time.toFixed(2)} x time, ${memory.toFixed(1)} x memory`,
  );
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

function beside(): void {
  const source = at('tree');
  makeFiles(source, files);
  const start = best([1, 2, 3].map(() => measure([process.execPath, '-e', ''])));
  console.log(
    `Node's own start: ${figures(start)}; ${threads} threads; load ${loadavg()[0]?.toFixed(1) ?? ''}`,
  );
  console.log(`${''.padEnd(34)}${'cfs-mountctl'.padStart(19)}${'C tools'.padStart(19)}`);
  const [a, b] = [at('our-store'), at('their-store')];
  compare(
    `build, ${files} files, empty store`,
    () => ours(source, emptied(a)),
    () => theirs(source, emptied(b)),
  );
  compare(
    `build, ${files} files, full store`,
    () => ours(source, a),
    () => theirs(source, b),
  );
  if (!readFileSync(at('our.image')).equals(readFileSync(at('their.image'))))
    throw new Error('images differ');
  writeFileSync(at('large'), '');
  for (let index = 0; index < 16; index++)
    writeFileSync(at('large'), Buffer.alloc(2 ** 26, `${index} `), { flag: 'a' });
  compare(
    'digest, 1 GiB',
    () => measure([...tool, 'digest', at('large')]),
    () => measure(['fsverity', 'digest', at('large')]),
  );
  const megabytes = (statSync(at('our.image')).size / 1e6).toFixed(1);
  compare(
    `dump, ${megabytes} MB, less Node's start`,
    () => measure([...tool, 'dump', at('our.image')]),
    () => measure(sidProgram('composefs-info', 'dump', at('our.image'))),
    start.seconds,
  );
}

function growth(): void {
  console.log('\nbuild into an empty store, then into the full one:');
  for (const count of [1000, 10_000, 30_000, 100_000, 300_000].filter((count) => count <= most)) {
    const source = at(`grown-${count}`);
    makeFiles(source, count);
    const store = emptied(at('grown-store'));
    const first = ours(source, store);
    console.log(`${String(count).padStart(7)} files ${figures(first)} ${figures(ours(source, store))}`);
    rmSync(source, { recursive: true });
  }
}

try {
  beside();
  growth();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
