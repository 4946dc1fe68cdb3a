import { LimitExceeded } from '../api/mount-delegation.ts';
import type { Evidence, Question } from '../policy/question.ts';
import { isSyscallError } from '../sys/errno.ts';
import { UnmountWatches } from '../sys/unmount-watches.ts';
import type { Owner } from './owner.ts';
import { Shares } from './shares.ts';

/** Bytes of a copied image on the daemon's disk: they are taken for as long as anybody holds the share. */
export class CopyShare {
  readonly #giveBack: () => void;
  #holders = 1;

  constructor(giveBack: () => void) {
    this.#giveBack = giveBack;
  }

  /** One holder more. */
  hold(): void {
    this.#holders += 1;
  }

  /** One holder less. The last one gives the bytes back. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#giveBack();
  }
}

/** A share of a user's superblocks that is taken: for a mount that is being made, then for as long as it lives. */
export interface Reservation {
  readonly owner: Owner;
}

/** What was asked and decided for a mount: enough to ask another policy about it. */
export interface MountRecord {
  readonly question: Question;
  readonly evidence: Evidence;
}

/** A superblock that lives, whose it is, and why it was let out. */
export interface LiveMount {
  readonly owner: Owner;
  readonly record: MountRecord | undefined;
}

/**
 * The superblocks that live on after they were handed out. The kernel tells nobody when a receiver closes or unmounts
 * the last clone, but it does tell an inotify watch on the mount's root, which pins nothing, when the superblock goes
 * (IN_UNMOUNT, inotify(7)). So limits count superblocks, not clones, and count them exactly: a lease on the image's
 * file could not tell two mounts of one installed image apart.
 */
export class Handouts {
  readonly #superblocks = new Shares('superblocksPerUser', 'superblocks');
  readonly #copied = new Shares('copiedBytesPerUser', 'copiedBytes');
  readonly #live = new Set<LiveMount>();
  /** Opened with the first mount. */
  #watches: UnmountWatches | undefined;

  /** Takes a share for a mount that is to be made. Throws LimitExceeded. Give it back by `cancel`, or to `watch`. */
  reserve(owner: Owner): Reservation {
    let met = this.#superblocks.take(owner, 1);
    if (met !== undefined) {
      // What has gone since the event loop's last look is no reason to refuse.
      this.#watches?.drain();
      met = this.#superblocks.take(owner, 1);
    }
    if (met !== undefined) throw new LimitExceeded({ ...met });
    return { owner };
  }

  /** Takes `bytes` for a copy that is to be made. Throws LimitExceeded. The caller is the first holder. */
  reserveCopy(owner: Owner, bytes: number): CopyShare {
    const met = this.#copied.take(owner, bytes);
    if (met !== undefined) throw new LimitExceeded({ ...met });
    return new CopyShare(() => {
      this.#copied.give(owner, bytes);
    });
  }

  /** The mount was not made after all. */
  cancel(reservation: Reservation): void {
    this.#superblocks.give(reservation.owner, 1);
  }

  /**
   * The mount was made: the share stays taken, `copy` held, and `record` listed until the superblock of `mountFd` is
   * gone. Throws LimitExceeded where the kernel has no more watches; then the share is given back.
   */
  watch(
    mountFd: number,
    reservation: Reservation,
    kept: { readonly copy: CopyShare | undefined; readonly record: MountRecord | undefined },
  ): void {
    const live: LiveMount = { owner: reservation.owner, record: kept.record };
    try {
      this.#watches ??= new UnmountWatches();
      this.#watches.add(mountFd, () => {
        this.#live.delete(live);
        kept.copy?.release();
        this.cancel(reservation);
      });
    } catch (error) {
      this.cancel(reservation);
      if (isSyscallError(error, 'ENOSPC', 'EMFILE')) {
        throw new LimitExceeded({ limit: 'fs.inotify', value: this.#live.size });
      }
      throw error;
    }
    kept.copy?.hold();
    this.#live.add(live);
  }

  /** What is in use now, as far as known: nothing that was handed out before this process began. */
  live(): readonly LiveMount[] {
    return [...this.#live];
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#watches?.close();
  }

  /** Bytes of copies and superblocks that are taken, for the checks against leaks. */
  get totals(): { readonly superblocks: number; readonly copiedBytes: number } {
    return { superblocks: this.#superblocks.total, copiedBytes: this.#copied.total };
  }
}
