import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Times } from './figures.ts';
import type { Room } from './room.ts';

const sidFolder = resolve(process.cwd(), '.cache/sid');
const helper = resolve(process.cwd(), 'dist/cli/mount.cfs-delegated.cjs');
const inOwnNamespace = ['unshare', '--mount', '--propagation', 'private', '--'];

/** Microseconds that a whole process takes. */
function run(words: readonly string[]): number {
  const [command = '', ...parameters] = words;
  const begun = performance.now();
  const { status, stderr } = spawnSync(command, parameters, { encoding: 'utf8' });
  const took = (performance.now() - begun) * 1000;
  if (status !== 0) throw new Error(`failed: ${words.join(' ')}: ${stderr}`);
  return took;
}

interface Program {
  readonly name: string;
  readonly words: readonly string[];
  readonly rounds: number;
  readonly before?: () => void;
}

/** Whole processes, which take turns: the helper beside Node itself, and what others offer for the same. */
export function measurePrograms(room: Room): Times[] {
  const target = join(room.folder, 'target');
  const copy = join(room.folder, 'copy');
  const archive = join(room.folder, 'large.tar');
  mkdirSync(target);
  run(['tar', '-C', room.large.source, '-cf', archive, '.']);
  const empty = (): void => {
    rmSync(copy, { recursive: true, force: true });
    mkdirSync(copy);
  };
  const mounted = ['name:small', target, '-o', `socket=${room.socketPath}`];
  const programs: Program[] = [
    { name: '`node -e 0`', words: [...inOwnNamespace, process.execPath, '-e', '0'], rounds: 20 },
    {
      name: '`mount.cfs-delegated name:…`',
      words: [...inOwnNamespace, process.execPath, helper, ...mounted],
      rounds: 20,
    },
    ...composefs(room, target),
    ...fsverity(room.large.path),
    {
      name: '`tar -xf`, 37,000 entries',
      words: ['tar', '-C', copy, '-xf', archive],
      rounds: 1,
      before: empty,
    },
    {
      name: '`cp -a`, 37,000 entries',
      words: ['cp', '-a', `${room.large.source}/.`, copy],
      rounds: 1,
      before: empty,
    },
  ];
  const times = programs.map(() => [] as number[]);
  for (let round = 0; round < 20; round++) {
    for (const [index, { words, rounds, before }] of programs.entries()) {
      if (round >= rounds) continue;
      before?.();
      times[index]?.push(run(words));
    }
  }
  return programs.map(({ name }, index) => ({ name, times: times[index] ?? [] }));
}

function composefs(room: Room, target: string): Program[] {
  const program = join(sidFolder, 'usr/sbin/mount.composefs');
  if (!existsSync(program)) {
    console.error('SKIPPED (bench): mount.composefs, which test/interop/setup.sh fetches');
    return [];
  }
  const loader = [join(sidFolder, 'usr/lib64/ld-linux-x86-64.so.2'), '--library-path'];
  const words = [...loader, join(sidFolder, 'usr/lib/x86_64-linux-gnu'), program, room.small.path, target];
  const options = ['-o', `basedir=${room.storePath}`];
  return [
    { name: '`mount.composefs`, as root', words: [...inOwnNamespace, ...words, ...options], rounds: 20 },
  ];
}

function fsverity(path: string): Program[] {
  if (spawnSync('fsverity', ['--help']).error !== undefined) {
    console.error('SKIPPED (bench): fsverity digest, of Debian’s package fsverity');
    return [];
  }
  return [{ name: '`fsverity digest`, 8 MB', words: ['fsverity', 'digest', path], rounds: 20 }];
}
