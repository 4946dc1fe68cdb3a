import { readFileSync } from 'node:fs';
import { median, microseconds } from './figures.ts';
import { startRaw, type RawRounds } from './raw-rounds.ts';
import type { Room } from './room.ts';

const containers = 100;
const mountsEach = 100;
const walks = 3;

/** What many live mounts of one image cost. */
export interface Crowd {
  /** For people. */
  readonly lines: readonly string[];
  /** Medians, in microseconds, of walks in the second container and in the last. */
  readonly walks: { readonly second: number; readonly last: number };
}

/** Holds so many mounts, and walks in some of them. */
export async function measureCrowd(room: Room, program: string): Promise<Crowd> {
  const target = room.target(room.large, { image: { name: room.large.name }, idMap: 'caller' });
  const wrapper = ['unshare', '--user', '--map-root-user', '--'];
  const all: RawRounds[] = [];
  try {
    const before = { kernel: kernelMegabytes(), service: room.residentMegabytes() };
    const walked: number[][] = [];
    for (let index = 0; index < containers; index++) {
      const container = startRaw(program, target, wrapper);
      all.push(container);
      await container.run('hold', mountsEach);
      if (index < 2 || index === containers - 1) walked.push(await container.run('walk', walks));
    }
    const mounts = containers * mountsEach;
    const kernel = ((kernelMegabytes() - before.kernel) * 1024) / mounts;
    const service = ((room.residentMegabytes() - before.service) * 1024) / mounts;
    const [first = [], ...others] = walked;
    const [second = NaN, last = NaN] = others.map(median);
    const lines = [
      `${mounts} live mounts of the large image in ${containers} user namespaces: ${kernel.toFixed(1)} KB of kernel memory ` +
        `(slabs, per-CPU data, stacks and page tables, those of the ${containers} processes included) and ` +
        `${service.toFixed(2)} KB of the service's for each.`,
      `A walk over the image: ${microseconds(first[0] ?? NaN)} for whoever is first, then ` +
        `${microseconds(second)} in the second container and ${microseconds(last)} in the last.`,
    ];
    return { lines, walks: { second, last } };
  } finally {
    await Promise.all(all.map((each) => each.close()));
  }
}

function kernelMegabytes(): number {
  const text = readFileSync('/proc/meminfo', 'latin1');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  return ['Slab', 'Percpu', 'KernelStack', 'PageTables'].reduce((sum, name) => sum + of(name), 0) / 1024;
}
