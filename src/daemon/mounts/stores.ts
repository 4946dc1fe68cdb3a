import { statSync } from 'node:fs';
import { BadFileDescriptor } from '../../api/mount-delegation.ts';
import type { Policy, PolicyStore } from '../../policy/policy.ts';
import type { Owner } from '../callers/owner.ts';
import type { Pool } from '../threads/pool.ts';
import type { StoresRequest } from '../calls/request.ts';
import type { DirectoryFacts } from '../threads/tasks.ts';
import { isLocalFileSystem, localFileSystemNames } from '../threads/verity-file.ts';

/** A directory of the client's own. */
export interface ClientDirectory {
  /** Borrowed from the call. */
  readonly fd: number;
  readonly field: string;
  /** Which directory it is. */
  readonly identity: string;
}

/** The stores that a request asks for. */
export interface ResolvedStores extends Disposable {
  /** Names of the policy's stores, in order; undefined where the request leaves the stores to the rule. */
  readonly names: readonly string[] | undefined;
  /** Directories that are none of the policy's stores, in order. */
  readonly directories: readonly ClientDirectory[];
}

/** Tells the policy's stores from the client's own directories. */
export class Stores {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /**
   * What `request` asks for under `policy`. A directory that is by device and inode one of the policy's stores
   * counts as that store. Throws or rejects with BadFileDescriptor, TimedOut, LimitExceeded.
   */
  resolve(request: StoresRequest, peer: Owner, policy: Policy): Promise<ResolvedStores> | ResolvedStores {
    const { names, directories } = request;
    if (directories.length > 0) return this.#lookAt(request, peer, policy);
    return resolved(names.length === 0 ? undefined : names, []);
  }

  async #lookAt(request: StoresRequest, peer: Owner, policy: Policy): Promise<ResolvedStores> {
    const fds = request.directories.map(({ fd }) => fd);
    // On a thread: even fstat(2) may wait for a client's FUSE server.
    const options = { owner: peer, stallable: true };
    const { value } = await this.#pool.run<'inspect'>({ kind: 'inspect' }, fds, options);
    const known = policyStores(policy);
    const names = new Set(request.names);
    const own: ClientDirectory[] = [];
    for (const [index, { fd, field }] of request.directories.entries()) {
      const facts = value.directories[index];
      if (facts?.directory !== true) throw new BadFileDescriptor({ field, reason: 'not a directory' });
      const identity = `${facts.device}:${facts.inode}`;
      const store = known.get(identity);
      if (store !== undefined) names.add(store.name);
      else own.push({ fd, field: checked(field, facts), identity });
    }
    return resolved(names.size === 0 ? undefined : [...names], own);
  }
}

/** A store of the client's is searched by the kernel itself: one that a FUSE server backs could hold up whoever opens a file. */
function checked(field: string, facts: DirectoryFacts): string {
  if (isLocalFileSystem(facts.magic)) return field;
  const reason = `its filesystem is none of those whose fs-verity counts (${localFileSystemNames})`;
  throw new BadFileDescriptor({ field, reason });
}

function policyStores(policy: Policy): ReadonlyMap<string, PolicyStore> {
  const known = new Map<string, PolicyStore>();
  for (const store of policy.stores.values()) {
    const found = statSync(store.path, { bigint: true, throwIfNoEntry: false });
    if (found === undefined) continue;
    const identity = `${found.dev}:${found.ino}`;
    if (!known.has(identity)) known.set(identity, store);
  }
  return known;
}

function resolved(
  names: readonly string[] | undefined,
  directories: readonly ClientDirectory[],
): ResolvedStores {
  return { names, directories, [Symbol.dispose]: () => undefined };
}
