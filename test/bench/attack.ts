import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { closeFd } from '../../src/sys/fd.ts';
import { isRoot } from '../support/needs.ts';
import { RawClient } from '../support/raw-client.ts';
import { microseconds, quantile, replaceSection, table } from './figures.ts';
import { openRoom, type Room } from './room.ts';

/**
 * What a user's mounts take while another user does to the service whatever one can do (attacks.py), beside what they take
 * when nobody does. Writes its part of test/bench/RESULTS.md. Usage: `npm run bench:attack`.
 */
const rounds = 4000;
const [victim, attacker] = [1235, 1234];

interface Measured {
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
  readonly megabytes: number;
}

/** A connection of the victim's. */
function connectAs(user: number, socketPath: string): RawClient {
  process.seteuid?.(user);
  try {
    return new RawClient(socketPath);
  } finally {
    process.seteuid?.(0);
  }
}

async function measure(room: Room): Promise<Measured> {
  const client = connectAs(victim, room.socketPath);
  const times: number[] = [];
  let megabytes = 0;
  for (let round = 0; round < rounds; round += 1) {
    const begun = performance.now();
    const { error, fds } = await client.call('Mount', { image: { name: room.small.name } });
    times.push((performance.now() - begun) * 1000);
    if (error !== undefined) throw new Error(`a mount was refused: ${error}`);
    fds.forEach(closeFd);
    if (round % 100 === 0) megabytes = Math.max(megabytes, room.residentMegabytes());
  }
  client.close();
  times.sort((a, b) => a - b);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), worst: times.at(-1) ?? NaN, megabytes };
}

/** Runs `during` while another user attacks; says how. */
async function underAttack<Result>(
  room: Room,
  during: () => Promise<Result>,
): Promise<{ result: Result; attacks: string }> {
  const script = resolve(process.cwd(), 'test/bench/attacks.py');
  const ids = [`--reuid=${attacker}`, `--regid=${attacker}`, '--clear-groups', '--'];
  // As text: other users may not reach the checkout.
  const python = ['/usr/bin/python3', '-c', readFileSync(script, 'utf8')];
  const child = spawn('setpriv', [...ids, ...python, room.socketPath, room.small.name], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    const said = createInterface(child.stdout)[Symbol.asyncIterator]();
    const { value } = (await said.next()) as { value: string };
    return { result: await during(), attacks: value.replace(/^attacking /, '').replaceAll(' ', ', ') };
  } finally {
    child.stdin.end();
    await once(child, 'close');
  }
}

if (!isRoot) throw new Error('only root can start the service');
const room = await openRoom();
try {
  await measure(room);
  const [load = 0] = loadavg();
  const idle = await measure(room);
  const { result: attacked, attacks } = await underAttack(room, () => measure(room));
  const row = (name: string, { p50, p99, worst, megabytes }: Measured): string[] => [
    name,
    microseconds(p50),
    microseconds(p99),
    microseconds(worst),
    `${megabytes.toFixed(0)} MB`,
  ];
  const ratio = attacked.p99 / idle.p99;
  const text = [
    `Mounts of one user by name, ${rounds} one after another, while another user attacks in all ways at once (${attacks}). ` +
      `Linux ${release()}, ${cpus().length} processors, which the attackers use as well; the load was ${load.toFixed(1)} before.`,
    '',
    table([['', 'p50', 'p99', 'longest', 'memory at most'], row('idle', idle), row('attacked', attacked)]),
    '',
    `The p99 under attack is ${ratio.toFixed(1)} times that of an idle service.`,
  ].join('\n');
  const results = resolve(process.cwd(), 'test/bench/RESULTS.md');
  writeFileSync(results, replaceSection(readFileSync(results, 'utf8'), 'attack', text));
  console.log(text);
} finally {
  await room.close();
}
