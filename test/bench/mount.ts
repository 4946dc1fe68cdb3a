import { loadavg, release } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import type { DelegatedMount } from '../../src/client/client.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { addSeals, createMemfd, writeAll } from '../../src/sys/file.ts';
import { isRoot } from '../support/needs.ts';
import { startRawRounds, type RawRounds } from './raw-rounds.ts';
import { installedName, openRoom, type Room, type SignedImage } from './room.ts';

/**
 * The time from call to received mount, beside the system calls without which nobody mounts. All kinds of rounds take
 * turns, a few of each at a time, so that whatever else the machine does meets all alike.
 * Usage: `npm run bench -- [ROUNDS OF KNOWN IMAGES [ROUNDS OF NEW IMAGES]]`.
 */
interface Series {
  readonly name: string;
  readonly rounds: number;
  /** Microseconds of each of so many rounds. */
  readonly run: (rounds: number) => Promise<number[]>;
  readonly times: number[];
}

const turns = 100;

/** Times `round`, which answers with what is to be closed outside of the time. */
async function timed(round: () => Promise<DelegatedMount | undefined>): Promise<number> {
  const begun = performance.now();
  const made = await round();
  const microseconds = (performance.now() - begun) * 1000;
  made?.mount.close();
  return microseconds;
}

function repeated(round: () => Promise<number>): Series['run'] {
  return async (rounds) => {
    const times: number[] = [];
    for (let index = 0; index < rounds; index++) times.push(await round());
    return times;
  };
}

function sealed(bytes: Uint8Array): OwnedFd {
  using memfd = createMemfd('image');
  writeAll(memfd.number, bytes);
  addSeals(memfd.number, ['write', 'grow', 'shrink']);
  return memfd.moved();
}

async function mountMemfd({ client }: Room, { image, signature }: SignedImage): Promise<number> {
  using memfd = sealed(image);
  return await timed(() => client.mount({ image: { fd: memfd.number }, signatures: [signature] }));
}

function allSeries(room: Room, raw: RawRounds | undefined, known: number, few: number): Series[] {
  const { client } = room;
  const inC = (what: 'build' | 'pass' | 'call'): Series['run'] =>
    raw === undefined ? () => Promise.resolve([]) : (rounds) => raw.run(what, rounds);
  const series = (name: string, rounds: number, run: Series['run']): Series => ({
    name,
    rounds,
    run,
    times: [],
  });
  return [
    series('raw calls: build', known, inC('build')),
    series(baseline, known, inC('pass')),
    series(
      'Describe, client library',
      known,
      repeated(() => timed(() => client.describe().then(() => undefined))),
    ),
    series('known image by name, bare socket', known, inC('call')),
    series(
      'known image by name, client library',
      known,
      repeated(() => timed(() => client.mount({ image: { name: installedName } }))),
    ),
    series(
      'known image, sealed memfd',
      known,
      repeated(() => mountMemfd(room, room.known)),
    ),
    series(
      'new image, sealed memfd',
      few,
      repeated(async () => mountMemfd(room, await room.makeNew())),
    ),
  ];
}

const baseline = 'raw calls: build and pass';

async function takeTurns(all: readonly Series[]): Promise<void> {
  // Not counted: what is compiled, opened and learnt the first time.
  for (const { run } of all) await run(20);
  for (let turn = 1; turn <= turns; turn++) {
    for (const { rounds, run, times } of all) {
      const due = Math.round((rounds * turn) / turns) - times.length;
      if (due === 0) continue;
      // What the service still has to take away after its replies is no burden of the next kind.
      await wait(30);
      times.push(...(await run(due)));
    }
  }
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.floor(sorted.length * part)] ?? NaN;
}

function report(all: readonly Series[]): string {
  const of = (times: readonly number[]): number[] => [...times].sort((a, b) => a - b);
  const unit = quantile(of(all.find(({ name }) => name === baseline)?.times ?? []), 0.5);
  const rows = all
    .filter(({ times }) => times.length > 0)
    .map(({ name, times }) => {
      const sorted = of(times);
      const [p10, p50, p90] = [0.1, 0.5, 0.9].map((part) => quantile(sorted, part)) as [
        number,
        number,
        number,
      ];
      const ratio = Number.isNaN(unit) ? '' : `${(p50 / unit).toFixed(2)} x`;
      return [name, `${times.length}`, p10.toFixed(0), p50.toFixed(0), p90.toFixed(0), ratio];
    });
  const table = [['microseconds', 'rounds', 'p10', 'p50', 'p90', 'to raw'], ...rows];
  return table
    .map(([name = '', ...cells]) => [name.padEnd(38), ...cells.map((cell) => cell.padStart(10))].join(''))
    .join('\n');
}

function load(): string {
  return loadavg()
    .map((average) => average.toFixed(2))
    .join(' ');
}

async function main(known: number, few: number): Promise<void> {
  const room = await openRoom();
  const raw = startRawRounds(room);
  if (raw === undefined)
    console.error('SKIPPED (bench): the raw calls and the bare socket, since there is no gcc');
  try {
    const all = allSeries(room, raw, known, few);
    const before = load();
    await takeTurns(all);
    console.log(`Linux ${release()}, Node ${process.version}, load ${before} before and ${load()} after`);
    console.log(report(all));
  } finally {
    raw?.close();
    await room.close();
  }
}

if (isRoot) {
  const [known = '2000', few = '50'] = process.argv.slice(2);
  await main(Number(known), Number(few));
} else {
  console.error('The benchmark mounts, and so must be run by root.');
  process.exitCode = 1;
}
