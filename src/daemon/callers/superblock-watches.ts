import { randomBytes } from 'node:crypto';
import { OwnedFd } from '../../sys/fd.ts';
import { createMemfd, getSeals } from '../../sys/file.ts';
import { createInotify, isInotify } from '../../sys/inotify.ts';
import { UnmountWatches } from '../../sys/unmount-watches.ts';
import type { HandedOver } from '../../sys/handed-over.ts';
import { SuperblockRecords, type Charge } from './superblock-records.ts';

/** Who keeps descriptors for the next process of the service (sd_notify(3), FDSTORE=1). */
export interface DescriptorStore {
  keep(name: string, fds: readonly number[]): void;
  drop(name: string): void;
}

/** What is kept is called by this, a version of the records' format, and a number that no two have in common. */
const keptPrefix = 'superblocks-1-';

/** Whether a descriptor with that name was kept by an earlier process, and is no socket to serve. */
export function isKeptName(name: string): boolean {
  return name.startsWith('superblocks-');
}

/**
 * Watches the superblocks that were handed out, and has on record what each takes. Watches and records are two descriptors,
 * which the service manager keeps for the next process, however this one ends: what goes in between is told to the
 * next, or listed no more. Without such a manager, they end with the process, and what it handed out counts no longer.
 */
export class SuperblockWatches {
  readonly #watches: UnmountWatches;
  readonly #records: SuperblockRecords;

  private constructor(inotify: OwnedFd, memory: OwnedFd) {
    this.#watches = new UnmountWatches(inotify);
    this.#records = new SuperblockRecords(memory);
  }

  /**
   * Goes on with those that an earlier process had kept, where they are among what was handed over; else begins new ones. Throws
   * SyscallError.
   */
  static open(handed: readonly HandedOver[], store: DescriptorStore): SuperblockWatches {
    let found: SuperblockWatches | undefined;
    for (const [name, fds] of byName(handed.filter(({ name }) => isKeptName(name)))) {
      const pair = found === undefined && name.startsWith(keptPrefix) ? pairOf(fds) : undefined;
      if (pair !== undefined) {
        found = new SuperblockWatches(pair.inotify, pair.memory);
        continue;
      }
      for (const fd of fds) fd.close();
      store.drop(name);
    }
    return found ?? SuperblockWatches.#begin(store);
  }

  static #begin(store: DescriptorStore): SuperblockWatches {
    using inotify = createInotify();
    using memory = createMemfd('cfs-mountd-superblocks');
    store.keep(`${keptPrefix}${randomBytes(8).toString('hex')}`, [inotify.number, memory.number]);
    return new SuperblockWatches(inotify.moved(), memory.moved());
  }

  /**
   * For what an earlier process handed out: `take` is called with each charge, and what it answers once that superblock is gone,
   * at once where it went in the meantime. To be called first of all, and once.
   */
  resume(take: (charge: Charge) => () => void): void {
    for (const [slot, record] of this.#records.read()) this.#onGone(record.watch, slot, take(record));
    this.#watches.recheck();
  }

  /**
   * Calls `gone` once the superblock of `mount` is gone, and has `charge` on record until then. Throws SyscallError: ENOSPC where
   * the kernel has no more watches.
   */
  add(mount: number, charge: Charge, gone: () => void): void {
    const watch = this.#watches.watch(mount);
    this.#onGone(watch, this.#records.write({ ...charge, watch }), gone);
  }

  /** Takes note of what has gone by now. */
  drain(): void {
    this.#watches.drain();
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#watches.close();
    this.#records.close();
  }

  #onGone(watch: number, slot: number, gone: () => void): void {
    this.#watches.onGone(watch, () => {
      this.#records.release(slot);
      gone();
    });
  }
}

function byName(handed: readonly HandedOver[]): ReadonlyMap<string, readonly OwnedFd[]> {
  const found = new Map<string, OwnedFd[]>();
  for (const { fd, name } of handed) found.set(name, [...(found.get(name) ?? []), new OwnedFd(fd)]);
  return found;
}

/** The two, whichever comes first; undefined where it is not these. */
function pairOf(fds: readonly OwnedFd[]): { inotify: OwnedFd; memory: OwnedFd } | undefined {
  const inotify = fds.find(({ number }) => isInotify(number));
  const memory = fds.find(({ number }) => getSeals(number) !== undefined);
  return fds.length === 2 && inotify !== undefined && memory !== undefined ? { inotify, memory } : undefined;
}
