import { median, microseconds, quantile, table, type Times } from './figures.ts';

/** What a benchmark has measured, as far as there are marks for it. Times in microseconds. */
export interface Measured {
  /** By the names that the tables have. */
  readonly rows: ReadonlyMap<string, Times>;
  readonly callsPerSecond: number;
  /** Of those calls. */
  readonly callTimes: readonly number[];
  /** Medians of walks over the tree, in the second container and in the last. */
  readonly walks: { readonly second: number; readonly last: number };
  readonly idleMegabytes: number;
}

/** What is wanted of one figure, and how far from it the figure is: 1 and less is reached. */
interface Mark {
  readonly what: string;
  readonly mark: string;
  readonly measured: string;
  readonly part: number;
  /** What the profile shows where it is missed. */
  readonly limit?: string;
}

/** A row for each mark, whether it is reached, and by how much it is missed. */
export function marksTable(measured: Measured): string {
  const rows = marks(measured).map(({ what, mark, measured: figure, part, limit = '' }) => [
    what,
    mark,
    figure,
    part <= 1 ? 'reached' : `missed by ${((part - 1) * 100).toFixed(0)} %`,
    part <= 1 ? '' : limit,
  ]);
  return table([['', 'mark', 'measured', '', 'what the profile shows'], ...rows]);
}

const wakeUps =
  'half of it is the kernel’s, in ten calls; client and service wake each other, which costs most on processors that had nothing to do: beside other work it is 0.9 × and less';

function marks({ rows, callsPerSecond, callTimes, walks, idleMegabytes }: Measured): readonly Mark[] {
  const timesOf = (name: string): readonly number[] => {
    const found = rows.get(name);
    if (found === undefined) throw new Error(`nothing was measured as "${name}"`);
    return found.times;
  };
  const p50 = (name: string): number => median(timesOf(name));
  const p99 = (name: string): number => quantileOf(timesOf(name), 0.99);
  const atMost = (what: string, value: number, bound: number, mark: string, limit?: string): Mark => ({
    what,
    mark,
    measured: microseconds(value),
    part: value / bound,
    ...(limit !== undefined && { limit }),
  });
  const ratio = (
    what: string,
    value: number,
    unit: number,
    bound: number,
    of: string,
    limit?: string,
  ): Mark => ({
    what,
    mark: `at most ${bound} × ${of}`,
    measured: `${(value / unit).toFixed(2)} ×`,
    part: value / unit / bound,
    ...(limit !== undefined && { limit }),
  });
  const raw = p50('raw calls: build the mount');
  const byName = p50('known image by name');
  const beyondRaw = p50('8 MB image by name, not kept') - p50('raw calls: build the 8 MB image');
  const busy = quantileOf(callTimes, 0.99);
  return [
    ratio('known image by name, p50', byName, raw, 1, 'the raw calls', wakeUps),
    ratio('known image by digest, p50', p50('known image by digest'), raw, 1, 'the raw calls', wakeUps),
    atMost(
      'known image by name, p99',
      p99('known image by name'),
      1000,
      'below 1 ms',
      'V8 still compiles in the first thousands of calls; then a collection of garbage in every few hundred is what is left',
    ),
    ratio(
      'known image with an ID mapping seen before',
      p50('known image with an ID mapping seen before'),
      byName,
      1.2,
      'that without',
    ),
    atMost(
      'connect, call, receive, close',
      p50('the same as the first, connecting and closing included'),
      250,
      'at most 250 µs',
      'to accept takes three times what the call takes: who the peer is (pidfd, user namespace, groups), in some twenty system calls',
    ),
    atMost('first mount of an installed 8 MB image, beyond the raw calls', beyondRaw, 1000, 'at most 1 ms'),
    ...(rows.has(fsverity)
      ? [
          ratio(
            'first mount from a sealed memfd of 8 MB',
            p50('8 MB image, sealed memfd, not kept'),
            p50(fsverity),
            1.3,
            fsverity,
            'it is hashed twice: in place, so that what nobody vouches for takes no room, and as it is copied',
          ),
        ]
      : []),
    {
      what: 'calls a second, 64 connections',
      mark: 'at least 8000',
      measured: callsPerSecond.toFixed(0),
      part: 8000 / callsPerSecond,
      limit:
        'one thread serves them, with some 100 µs of its own for each call, of which the garbage collector has a tenth',
    },
    atMost('each of these, p99', busy, 20_000, 'below 20 ms'),
    // What two walks of the same tree differ by themselves.
    ratio('walk in the last of 100 containers', walks.last, walks.second, 1.1, 'that in the second'),
    atMost(
      'decision and verification, known content',
      p50('decision and verification, known content'),
      15,
      'at most 15 µs',
    ),
    ratio(
      'helper, whole process',
      p50('`mount.cfs-delegated name:…`'),
      p50('`node -e 0`'),
      1.25,
      '`node -e 0`',
      'compiling its own 160 KB is half of it, koffi’s addon a quarter',
    ),
    {
      what: 'idle, resident',
      mark: 'at most 75 MB',
      measured: `${idleMegabytes.toFixed(0)} MB`,
      part: idleMegabytes / 75,
      limit:
        '40 MB are pages of Node’s own program, which its other processes share; the rest is the heaps of the service and of its two threads',
    },
  ];
}

const fsverity = '`fsverity digest`, 8 MB';

function quantileOf(times: readonly number[], part: number): number {
  return quantile(
    [...times].sort((a, b) => a - b),
    part,
  );
}
