import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { closeFd, OwnedFd } from '../../src/sys/fd.ts';
import { addSeals, createMemfd, writeAll, type Seal } from '../../src/sys/file.ts';
import type { JsonObject } from '../../src/varlink/message.ts';
import type { Host } from '../support/hosting.ts';
import { interfaceName, type RawClient, type RawReply } from '../support/raw-client.ts';

/** The whole name of one of the interface's errors. */
export const errorName = (name: string): string => `${interfaceName}.${name}`;

/** The whole name of one of org.varlink.service's errors. */
export const serviceError = (name: string): string => `org.varlink.service.${name}`;

/** A memfd that holds `bytes`, sealed as images have to be unless other seals are given. */
export function memfdOf(bytes: Uint8Array, seals: readonly Seal[] = ['write', 'grow', 'shrink']): OwnedFd {
  const memfd = createMemfd('image');
  writeAll(memfd.number, bytes);
  if (seals.length > 0) addSeals(memfd.number, seals);
  return memfd;
}

/** Closes the descriptors of a reply. */
export function drop(reply: RawReply): void {
  reply.fds.forEach(closeFd);
}

/** What a file of the mount in a reply holds; the mount is closed. */
export function readFrom(reply: RawReply, name: string): string {
  const [fd] = reply.fds;
  if (fd === undefined) throw new Error(`no mount came: ${JSON.stringify(reply)}`);
  using mount = new OwnedFd(fd);
  return readFileSync(`/proc/self/fd/${mount.number}/${name}`, 'utf8');
}

/** Calls with one memfd of `image`. */
export async function callWithImage(
  client: RawClient,
  method: string,
  image: Uint8Array,
  parameters: JsonObject = {},
): Promise<RawReply> {
  using memfd = memfdOf(image);
  return await client.call(method, { image: { fileDescriptor: 0 }, ...parameters }, [memfd.number]);
}

/** A connection that counts as root's, for certain: the service looks at capabilities some time after connecting. */
export async function connectAsRoot(host: Host): Promise<RawClient> {
  const client = host.connect();
  await client.call('Describe');
  return client;
}

/** A connection of another user. None of root's may be without an answer yet: capabilities go for a moment. */
export function connectAs(host: Host, uid: number): RawClient {
  if (process.seteuid === undefined) throw new Error('this system has no users');
  process.seteuid(uid);
  try {
    return host.connect();
  } finally {
    process.seteuid(0);
  }
}

/** What the descriptors of a process refer to. */
export function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((fd) => {
    try {
      return [readlinkSync(join(folder, fd))];
    } catch {
      // It was closed in between.
      return [];
    }
  });
}

/** How many threads a process has. */
export function threadsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).length;
}

/** The memory of a process that is resident, in bytes. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kib === undefined) throw new Error(`the process ${pid} has ended`);
  return Number(kib) * 1024;
}

/** The mounts of every mount namespace that a thread of the process is in, a line each. */
export function mountsOf(pid: number): string[] {
  const tables = new Map<string, string>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${task}`;
    try {
      tables.set(readlinkSync(`${folder}/ns/mnt`), readFileSync(`${folder}/mountinfo`, 'utf8'));
    } catch {
      // The thread ended in between.
    }
  }
  return [...tables.values()].flatMap((table) => table.split('\n'));
}

/**
 * The command that runs a script of this folder, with the system's own Python and as text: other users may not reach
 * the checkout, nor a Python of root's.
 */
export function python(script: string): readonly string[] {
  return ['/usr/bin/python3', '-c', readFileSync(join(import.meta.dirname, script), 'utf8')];
}

/** Waits, up to half a minute, until `condition` holds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await wait(20);
  }
}
