import { BadFileDescriptor, LimitExceeded, StoreNotFound, SystemError } from '../../api/mount-delegation.ts';
import type { Digest } from '../../base/digest.ts';
import type { PolicyStore } from '../../policy/policy.ts';
import type { AddTarget } from '../../policy/question.ts';
import { objectPath } from '../../store/objects.ts';
import { isSyscallError, SyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { getFlags, isMissing, openFile } from '../../sys/file.ts';
import { AddingQuota, chargedBytes } from './adding-quota.ts';
import type { HandoutRecords } from '../mounts/handout-records.ts';
import type { Owner } from '../callers/owner.ts';
import { limits } from '../callers/limits.ts';
import type { Slice } from '../threads/object-files.ts';
import type { Pool } from '../threads/pool.ts';
import type { ObjectFile } from '../calls/request.ts';
import { rootOwnedFault } from '../threads/root-owned.ts';
import { Shares } from '../callers/shares.ts';
import { hasSize, placeOf, type ObjectTable, type ScannedImage } from '../threads/object-table.ts';
import { wantedObjects } from './wanted-objects.ts';

/** Files to be added, with everything decided. */
export interface AddOrder {
  readonly digest: Digest;
  /** What the image holds. */
  readonly scan: ScannedImage;
  readonly target: AddTarget;
  /** Descriptors of the client's, borrowed. */
  readonly files: readonly ObjectFile[];
  readonly peer: Owner;
  /** Whether the policy that decided is still in force; once it is not, nothing more is added. */
  readonly isCurrent: () => boolean;
  /** Told of each file that the store did not have before: its path there and its size. */
  readonly added: (path: string, bytes: number) => void;
}

/** Files of an image that a store does not have, and where to go on looking; undefined at the end. */
export interface MissingPart {
  readonly missing: readonly string[];
  readonly next: number | undefined;
}

/** Where to look for missing files, and how many to list at most. */
export interface MissingQuestion {
  readonly from: number;
  readonly most: number;
}

/** A client's file that may be one of the image's. */
interface Candidate extends ObjectFile {
  readonly bytes: number;
}

/**
 * What is copied by one task: so much that tasks cost nothing beside it, and so little that others' tasks come in between, and
 * that an honest source of 0.4 MiB/s is done before the task is given up (stallMilliseconds).
 */
const stepBytes = 4 * 1024 * 1024;
const stepFiles = 64;

/** What adding needs. */
export interface AdderOptions {
  readonly pool: Pool;
  /** Closes what takes long to close: a file that is not kept frees its space then. */
  readonly closing: { close(fds: readonly number[], owner: Owner): void };
  readonly records: Pick<HandoutRecords, 'cover'>;
}

/**
 * Adds files that clients bring to the policy's stores. Each is copied to a file without a name in the store; the copy is
 * measured, and gets its name if the image wants what it is. A client can change, lie about or hold back its files as it
 * likes: nothing is believed but the copy, and what waits for a client can be given up (pool.ts).
 */
export class Adder {
  readonly #options: AdderOptions;
  readonly #quota = new AddingQuota();
  readonly #calls = new Shares('addingCallsPerUser', 'addingCalls');

  constructor(options: AdderOptions) {
    this.#options = options;
  }

  /** Does `work` as one of the calls of that user that may add at a time. Rejects with LimitExceeded, or as `work` does. */
  async inTurn<Result>(peer: Owner, work: () => Promise<Result>): Promise<Result> {
    const met = this.#calls.take(peer, 1);
    if (met !== undefined) throw new LimitExceeded({ ...met });
    try {
      return await work();
    } finally {
      this.#calls.give(peer, 1);
    }
  }

  /**
   * Adds the files in their order, up to the first that is refused. Throws or rejects with BadFileDescriptor, IncompatibleImage,
   * StoreNotFound, LimitExceeded, TimedOut, SystemError, SyscallError.
   */
  async add(order: AddOrder): Promise<void> {
    if (order.files.length === 0) return;
    const wanted = wantedObjects(order.scan);
    using store = openStore(order.target.store);
    const candidates = await this.#examine(order, wanted);
    // What is added is for a mount to come: until then, nothing else says that it is needed.
    await this.#options.records.cover(order.digest, order.scan.objects, order.peer);
    for (const step of steps(candidates)) {
      if (!order.isCurrent()) return;
      await this.#addStep(step, store.number, wanted, order).catch((error: unknown) => {
        throw explained(error, order.target.store);
      });
    }
  }

  /** Looks for files of the image in the store. */
  async missing(
    scan: ScannedImage,
    store: PolicyStore,
    question: MissingQuestion,
    peer: Owner,
  ): Promise<MissingPart> {
    const objects = wantedObjects(scan);
    const { from, most } = question;
    if (most === 0 || from >= objects.count) return { missing: [], next: undefined };
    using folder = openStore(store);
    const to = Math.min(from + limits.missingSearched, objects.count);
    const task = { kind: 'missing', objects, from, to, verity: [false], listed: most } as const;
    const options = { owner: peer, stallable: false };
    const { value } = await this.#options.pool.run<'missing'>(task, [folder.number], options);
    const last = value.objects.at(-1);
    const next = value.count > most && last !== undefined ? placeOf(objects, last) + 1 : to;
    return { missing: value.objects, next: next < objects.count ? next : undefined };
  }

  /** What the descriptors hold, as far as that can be told from outside. Throws BadFileDescriptor for what cannot be right. */
  async #examine({ files, peer }: AddOrder, wanted: ObjectTable): Promise<Candidate[]> {
    for (const { fd, field } of files) {
      // The kernel answers this one by itself, whatever the file is.
      const { access, pathOnly } = getFlags(fd);
      if (pathOnly)
        throw new BadFileDescriptor({ field, reason: 'opened with O_PATH, which cannot be read' });
      if (access === 'write') throw new BadFileDescriptor({ field, reason: 'opened for writing alone' });
    }
    const task = { kind: 'examine', fields: files.map(({ field }) => field) } as const;
    const fds = files.map(({ fd }) => fd);
    const { value } = await this.#options.pool.run<'examine'>(task, fds, { owner: peer, stallable: true });
    return files.map((file, index) => {
      const facts = value.files[index];
      const bytes = facts?.bytes ?? -1;
      const refuse = (reason: string): BadFileDescriptor =>
        new BadFileDescriptor({ field: file.field, reason });
      if (facts?.foreignKind !== undefined) throw refuse(`not a regular file but ${facts.foreignKind}`);
      if (!hasSize(wanted, bytes)) throw refuse(`no file of the image has its size of ${bytes} bytes`);
      return { ...file, bytes };
    });
  }

  async #addStep(
    step: readonly Candidate[],
    store: number,
    wanted: ObjectTable,
    order: AddOrder,
  ): Promise<void> {
    const { pool, closing } = this.#options;
    const { peer, target } = order;
    const sizes = step.map(({ bytes }) => bytes);
    const charged = chargedBytes(sizes);
    this.#quota.take(peer.user, charged, target.bytesPerHour, performance.now());
    const own = { owner: peer, stallable: false };
    const task = { kind: 'makeFiles', count: step.length, bytes: charged } as const;
    const { fds: copies } = await pool.run<'makeFiles'>(task, [store], own).catch((error: unknown) => {
      this.#quota.giveBack(peer.user, charged);
      throw error;
    });
    try {
      await this.#fill(step, copies, peer);
      const { value } = await pool.run<'measureFiles'>({ kind: 'measureFiles', sizes }, copies, own);
      const paths = value.digests.map(objectPath);
      const wrong = paths.findIndex((path) => placeOf(wanted, path) < 0);
      if (order.isCurrent())
        await this.#keep(step, copies, wrong < 0 ? paths : paths.slice(0, wrong), store, order);
      const refused = step[wrong];
      if (refused !== undefined) throw foreignContent(refused.field, value.digests[wrong]);
    } finally {
      closing.close(copies, peer);
    }
  }

  /** Copies the client's files; one that is large in more than one task. */
  async #fill(step: readonly Candidate[], copies: readonly number[], peer: Owner): Promise<void> {
    const run = async (slices: readonly Slice[]): Promise<void> => {
      const fds = [...step.map(({ fd }) => fd), ...copies];
      await this.#options.pool.run<'fillFiles'>({ kind: 'fillFiles', slices }, fds, {
        owner: peer,
        stallable: true,
      });
    };
    const [only] = step;
    if (only === undefined || step.length > 1) {
      await run(step.map(({ field, bytes }) => ({ field, from: 0, bytes })));
      return;
    }
    for (let from = 0; from < only.bytes; from += stepBytes) {
      await run([{ field: only.field, from, bytes: Math.min(stepBytes, only.bytes - from) }]);
    }
  }

  /** Gives the first copies their names, the `paths`. What was there already costs the user nothing. */
  async #keep(
    step: readonly Candidate[],
    copies: readonly number[],
    paths: readonly string[],
    store: number,
    order: AddOrder,
  ): Promise<void> {
    if (paths.length === 0) return;
    const task = { kind: 'keepFiles', paths } as const;
    const options = { owner: order.peer, stallable: false };
    const fds = [store, ...copies.slice(0, paths.length)];
    const { value } = await this.#options.pool.run<'keepFiles'>(task, fds, options);
    paths.forEach((path, index) => {
      const bytes = step[index]?.bytes ?? 0;
      if (value.isNew[index] === true) order.added(path, bytes);
      else this.#quota.giveBack(order.peer.user, chargedBytes([bytes]));
    });
  }
}

/** Parts of the list that are done at a time: many small files, or a large one. */
function* steps(files: readonly Candidate[]): Generator<readonly Candidate[]> {
  let step: Candidate[] = [];
  let bytes = 0;
  for (const file of files) {
    if (step.length > 0 && (step.length >= stepFiles || bytes + file.bytes > stepBytes)) {
      yield step;
      [step, bytes] = [[], 0];
    }
    step.push(file);
    bytes += file.bytes;
  }
  if (step.length > 0) yield step;
}

/**
 * The store's directory. Files are made there with root's rights, and whoever else could write it could lead them elsewhere.
 * Throws StoreNotFound, SystemError, SyscallError.
 */
function openStore(store: PolicyStore): OwnedFd {
  try {
    const fault = rootOwnedFault(store.path);
    if (fault !== undefined) {
      const detail = `nothing is added to the store "${store.name}", which others than root could change: ${fault}`;
      throw new SystemError({ call: '', errno: '', detail });
    }
    return openFile(store.path, { directory: true });
  } catch (error) {
    if (isMissing(error) || isMissingHere(error)) throw new StoreNotFound({ name: store.name });
    throw error;
  }
}

/** As isMissing, of what node:fs throws. */
function isMissingHere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

function foreignContent(field: string, digest: Digest | undefined): BadFileDescriptor {
  const shown = digest === undefined ? '' : ` (${digest})`;
  return new BadFileDescriptor({ field, reason: `the image has no file with this content${shown}` });
}

/** A disk that is full is the store's, and the caller cannot see which one that is. */
function explained(error: unknown, store: PolicyStore): unknown {
  if (!isSyscallError(error)) return error;
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  const what = error.detail === undefined ? '' : `${error.detail}, `;
  const detail = full ? `the store "${store.name}" is full` : `${what}in the store "${store.name}"`;
  return new SyscallError(error.syscall, error.code, detail);
}
