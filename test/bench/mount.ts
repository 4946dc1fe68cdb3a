import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { DelegatedMount } from '../../src/client/client.ts';
import { EvidenceCache } from '../../src/daemon/images/evidence.ts';
import { decide } from '../../src/policy/decide.ts';
import { loadPolicy } from '../../src/policy/load.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { addSeals, createMemfd, writeAll } from '../../src/sys/file.ts';
import { askKeyring } from '../../src/sys/keyring.ts';
import { isRoot } from '../support/needs.ts';
import { measureCrowd } from './crowd.ts';
import { median, microseconds, quantile, sectionOf, timesTable, type Times } from './figures.ts';
import { marksTable } from './marks.ts';
import { measurePrograms } from './programs.ts';
import { compileRaw, startRaw, type RawRounds, type RawWork } from './raw-rounds.ts';
import { openRoom, type BenchImage, type Room } from './room.ts';

/**
 * What mounting takes, beside the system calls without which nobody mounts and beside what others offer for the same, all
 * in one run; the kinds of rounds take turns, a few of each at a time, so that whatever else the machine does meets all
 * alike. Writes test/bench/RESULTS.md. Usage: `npm run bench -- [ROUNDS OF KNOWN IMAGES]`.
 */
interface Series {
  readonly name: string;
  readonly rounds: number;
  /** Microseconds of each of so many rounds. */
  readonly run: (rounds: number) => Promise<number[]>;
  readonly times: number[];
}

const turns = 50;
const floodCalls = 8000;

function repeated(round: () => Promise<number>): Series['run'] {
  return async (rounds) => {
    const times: number[] = [];
    for (let index = 0; index < rounds; index++) times.push(await round());
    return times;
  };
}

/** Times `round`, which answers with what is to be closed outside of the time. */
async function timed(round: () => Promise<DelegatedMount | undefined>): Promise<number> {
  const begun = performance.now();
  const made = await round();
  const took = (performance.now() - begun) * 1000;
  made?.mount.close();
  return took;
}

function sealed(bytes: Uint8Array): OwnedFd {
  using memfd = createMemfd('image');
  writeAll(memfd.number, bytes);
  addSeals(memfd.number, ['write', 'grow', 'shrink']);
  return memfd.moved();
}

async function mountMemfd(room: Room, image: Pick<BenchImage, 'bytes' | 'signature'>): Promise<number> {
  using memfd = sealed(image.bytes);
  const options = { image: { fd: memfd.number }, signatures: [image.signature] };
  return await timed(() => room.client.mount(options));
}

/** After everything that is kept was dropped, as for an image that nobody has mounted since it was installed. */
async function afterDrop(room: Room, round: () => Promise<number>): Promise<number> {
  await room.client.drop();
  return await round();
}

/** Evidence and decision for content that is known, in this process. */
function decisions(room: Room): Series['run'] {
  const { policy } = loadPolicy([room.policyFolder], { owners: 'refuse' });
  const evidence = new EvidenceCache(16, askKeyring);
  const { digest, signature } = room.small;
  const round = (): number => {
    const begun = performance.now();
    const question = {
      caller: { uid: 1000, root: false, gids: [1000] },
      digest,
      verification: evidence.verify([signature], digest, policy),
      allowUnsigned: false,
      clientStores: false,
      now: new Date(),
      newestVersion: () => undefined,
    };
    if (decide(policy, question).outcome === 'deny') throw new Error('the policy of the benchmark refuses');
    return (performance.now() - begun) * 1000;
  };
  return (rounds) => Promise.resolve(Array.from({ length: rounds }, round));
}

const baseline = 'raw calls: build the mount';

function allSeries(room: Room, programs: Programs, known: number): Series[] {
  const { small, large } = room;
  const series = (name: string, rounds: number, run: Series['run']): Series => ({
    name,
    rounds,
    run,
    times: [],
  });
  const by = (raw: RawRounds, what: RawWork): Series['run'] => {
    return (rounds) => raw.run(what, rounds);
  };
  const first = async (raw: RawRounds): Promise<number> => {
    const [time = NaN] = await raw.run('call', 1);
    return time;
  };
  const few = Math.max(Math.round(known / 50), 1);
  return [
    series(baseline, known, by(programs.byName, 'build')),
    series('raw calls: build it, pass it through a socket', known, by(programs.byName, 'pass')),
    series('known image by name', known, by(programs.byName, 'call')),
    series('known image by digest', known, by(programs.byDigest, 'call')),
    series('known image with an ID mapping seen before', known, by(programs.mapped, 'call')),
    series('the same as the first, connecting and closing included', known, by(programs.byName, 'dial')),
    series(
      'known image by name, client library',
      known,
      repeated(() => timed(() => room.client.mount({ image: { name: small.name } }))),
    ),
    series(
      'Describe, client library',
      known,
      repeated(() => timed(() => room.client.describe().then(() => undefined))),
    ),
    series('decision and verification, known content', known, decisions(room)),
    series('raw calls: build the 8 MB image', few, by(programs.large, 'build')),
    series(
      '8 MB image by name, not kept',
      few,
      repeated(() => afterDrop(room, () => first(programs.large))),
    ),
    series(
      'known 100-file image, sealed memfd',
      few,
      repeated(() => mountMemfd(room, small)),
    ),
    series(
      'new 100-file image, sealed memfd',
      few,
      repeated(async () => mountMemfd(room, await room.makeNew())),
    ),
    series(
      '8 MB image, sealed memfd, not kept',
      few,
      repeated(() => afterDrop(room, () => mountMemfd(room, large))),
    ),
  ];
}

interface Programs {
  readonly byName: RawRounds;
  readonly byDigest: RawRounds;
  readonly mapped: RawRounds;
  readonly large: RawRounds;
}

function startPrograms(room: Room, program: string): Programs {
  const { small, large } = room;
  const start = (image: BenchImage, name: string, more: object = {}, wrapper: string[] = []): RawRounds =>
    startRaw(program, room.target(image, { image: { name }, ...more }), wrapper);
  return {
    byName: start(small, small.name),
    byDigest: start(small, small.digest),
    mapped: start(small, small.name, { idMap: 'caller' }, ['unshare', '--user', '--map-root-user', '--']),
    large: start(large, large.name),
  };
}

async function takeTurns(all: readonly Series[]): Promise<void> {
  // Not counted: what is compiled, opened and learnt the first time.
  for (const { run, rounds } of all) await run(Math.min(rounds, 300));
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

/** Lines for people, and how many megabytes the service has when idle. */
async function starts(
  room: Room,
): Promise<{ readonly lines: readonly string[]; readonly idleMegabytes: number }> {
  const [ready, first, idle]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < 3; round++) {
    ready.push(await room.restart());
    await wait(3000);
    idle.push(room.residentMegabytes());
    first.push(await timed(() => room.client.mount({ image: { name: room.large.name } })));
  }
  const lines = [
    `From the start of the service to its first answer: ${median(ready).toFixed(0)} ms. Idle, three seconds later: ` +
      `${median(idle).toFixed(0)} MB resident.`,
    `The first mount of the 8 MB image by name after that: ${microseconds(median(first))}.`,
  ];
  return { lines, idleMegabytes: median(idle) };
}

interface Flood {
  readonly line: string;
  readonly callsPerSecond: number;
  readonly callTimes: readonly number[];
}

async function flood(raw: RawRounds): Promise<Flood> {
  await raw.run('flood', 2000);
  const callTimes = await raw.run('flood', floodCalls);
  const took = callTimes.pop() ?? NaN;
  const sorted = callTimes.sort((a, b) => a - b);
  const callsPerSecond = (floodCalls / took) * 1e6;
  const line =
    `64 connections at once, known image by name: ${callsPerSecond.toFixed(0)} calls a second, each answered within ` +
    `${microseconds(quantile(sorted, 0.5))} (median) and ${microseconds(quantile(sorted, 0.99))} (p99).`;
  return { line, callsPerSecond, callTimes };
}

function machine(): string {
  const [processor] = cpus();
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim();
  return (
    `Linux ${release()}, Node ${process.version}, ${cpus().length} × ${processor?.model ?? 'unknown'}, ${memory} GB; ` +
    `commit ${commit}, ${new Date().toISOString().slice(0, 10)}.`
  );
}

function load(): string {
  return loadavg()[0]?.toFixed(1) ?? '';
}

async function main(known: number): Promise<void> {
  const room = await openRoom();
  try {
    const program = compileRaw(room.folder);
    if (program === undefined) throw new Error('the benchmark needs gcc: its baseline is a program in C');
    const before = load();
    const programs = startPrograms(room, program);
    const all = allSeries(room, programs, known);
    await takeTurns(all);
    const flooded = await flood(programs.byName);
    await Promise.all(Object.values(programs).map((each: RawRounds) => each.close()));
    const whole: Times[] = measurePrograms(room);
    const crowd = await measureCrowd(room, program);
    const begun = await starts(room);
    const rows = new Map([...all, ...whole].map((times) => [times.name, times]));
    const { walks } = crowd;
    const { idleMegabytes } = begun;
    const { callsPerSecond, callTimes } = flooded;
    const unit = median(all.find(({ name }) => name === baseline)?.times ?? []);
    const text = [
      '# What mounting takes',
      `Written by \`npm run bench\`. ${machine()} Load ${before} before and ${load()} after: other work on the machine ` +
        'slows everything, so that ratios within one run say more than times.',
      'A call is timed by a bare client in C (test/bench/raw.c), from sending it to having received the mount, on a ' +
        'connection that is open already, unless a row says otherwise.',
      timesTable(all, unit),
      [flooded.line, ...crowd.lines, ...begun.lines].map((line) => `- ${line}`).join('\n'),
      'Whole processes, each started anew (all but the last three in a mount namespace of their own, which takes some ' +
        'milliseconds of each):',
      timesTable(whole, median(whole[0]?.times ?? [])).replace('to raw', 'to Node'),
      'What is wanted of these figures, on a machine like this one that does nothing else:',
      marksTable({ rows, callsPerSecond, callTimes, walks, idleMegabytes }),
    ].join('\n\n');
    const results = resolve(process.cwd(), 'test/bench/RESULTS.md');
    // What `npm run bench:attack` and `bench:images` have written stays.
    const document = readFileSync(results, 'utf8');
    const others = ['attack', 'images'].map((name) => sectionOf(document, name));
    writeFileSync(results, `${[text, ...others.filter((section) => section !== undefined)].join('\n\n')}\n`);
    console.log(text);
  } finally {
    await room.close();
  }
}

if (isRoot) {
  await main(Number(process.argv[2] ?? '2000'));
} else {
  console.error('The benchmark mounts, and so must be run by root.');
  process.exitCode = 1;
}
