import { LimitExceeded } from '../../api/mount-delegation.ts';
import type { Evidence, Question } from '../../policy/question.ts';
import type { SignedRootHash } from '../../trust/root-hash-signature.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { Owner } from './owner.ts';
import { Shares } from './shares.ts';
import type { SuperblockWatches } from './superblock-watches.ts';

/** Bytes of a copied image on the daemon's disk: they are taken for as long as anybody holds the share. */
export class CopyShare {
  readonly bytes: number;
  readonly #giveBack: () => void;
  #holders = 1;

  constructor(bytes: number, giveBack: () => void) {
    this.bytes = bytes;
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
  /** The loop devices that go with it. */
  loops: number;
}

/** What was asked and decided for a mount: enough to ask another policy about it. */
export interface MountRecord {
  readonly question: Question;
  /** The signature files that were shown: another policy has other keys. */
  readonly files: readonly Uint8Array[];
  /** The signed root hash that the image brought, where it was asked about. */
  readonly rootHash?: SignedRootHash | undefined;
  /** How many bytes of these came with the request: they are held for this record alone. */
  readonly sentBytes: number;
  readonly evidence: Evidence;
}

/** Records of one superblock beyond these are forgotten, the oldest first: each holds what signatures have proved. */
const recordsMax = 256;

/** A superblock that lives, whose share it takes, and why its mounts were let out. */
export class LiveMount {
  readonly owner: Owner;
  readonly #sent: Shares;
  readonly #records = new Map<string, { readonly record: MountRecord; readonly peer: Owner }>();
  #latest: MountRecord | undefined;

  /** `sent` counts the bytes of signature files that records hold. */
  constructor(owner: Owner, sent: Shares) {
    this.owner = owner;
    this.#sent = sent;
  }

  /**
   * One of its mounts was handed out to `peer`. The same caller under the same rule is on record once; beyond the peer's share
   * of bytes, as if no signature had been shown.
   */
  add(record: MountRecord, peer: Owner): void {
    const { question, evidence } = record;
    const before = this.#latest;
    this.#latest = record;
    // Most often it is the connection that asked last.
    if (before?.question.caller === question.caller && before.evidence.rule === evidence.rule) return;
    const { uid, root, gids } = question.caller;
    const key = [uid, root, gids.join(), question.location, evidence.rule].join('\n');
    this.#forget(key);
    const fits = this.#sent.take(peer, record.sentBytes) === undefined;
    this.#records.set(key, {
      record: fits ? record : { ...record, files: [], rootHash: undefined, sentBytes: 0 },
      peer,
    });
    const [oldest] = this.#records.keys();
    if (this.#records.size > recordsMax && oldest !== undefined) this.#forget(oldest);
  }

  /** It is gone: nothing of it is remembered. */
  end(): void {
    for (const key of this.#records.keys()) this.#forget(key);
  }

  #forget(key: string): void {
    const known = this.#records.get(key);
    if (known !== undefined) this.#sent.give(known.peer, known.record.sentBytes);
    this.#records.delete(key);
  }

  /** Why its mounts were let out, as far as is known. */
  get records(): readonly MountRecord[] {
    return Array.from(this.#records.values(), ({ record }) => record);
  }
}

/**
 * The superblocks that live on after they were handed out. The kernel tells nobody when a receiver closes or unmounts
 * the last clone, but it does tell an inotify watch on the mount's root, which pins nothing, when the superblock goes
 * (IN_UNMOUNT, inotify(7)). So limits count superblocks, not clones, and count them exactly: a lease on the image's
 * file could not tell two mounts of one installed image apart.
 */
export class Handouts {
  readonly #superblocks = new Shares('superblocksPerUser', 'superblocks');
  readonly #loops = new Shares('loopDevicesPerUser', 'loopDevices');
  readonly #copied = new Shares('copiedBytesPerUser', 'copiedBytes');
  readonly #unverified = new Shares('unverifiedBytesPerUser', 'unverifiedBytes');
  readonly #recordedBytes = new Shares('recordedBytesPerUser', 'recordedBytes');
  readonly #live = new Set<LiveMount>();
  /** Gives up what is kept at the expense of a user, or of everybody, where a share is spent. */
  #makeRoom: (user: number | undefined) => void = () => undefined;
  #sweeping: () => Promise<void> | undefined = () => undefined;
  readonly #watches: SuperblockWatches;
  #inherited = 0;

  /** Begins with what an earlier process handed out, as far as `watches` know of it: it goes on counting. */
  constructor(watches: SuperblockWatches) {
    this.#watches = watches;
    watches.resume(({ owner, loops, copiedBytes }) => {
      this.#inherited += 1;
      const held = [
        [this.#superblocks, 1],
        [this.#loops, loops],
        [this.#copied, copiedBytes],
      ] as const;
      for (const [shares, count] of held) shares.inherit(owner, count);
      return () => {
        this.#inherited -= 1;
        for (const [shares, count] of held) shares.give(owner, count);
      };
    });
  }

  /** How many superblocks there are yet that an earlier process handed out. */
  get inherited(): number {
    return this.#inherited;
  }

  /**
   * Takes a share for a mount that is to be made, by `loops` loop devices of its own. Throws LimitExceeded. Give it back by
   * `cancel`, or to `watch`.
   */
  reserve(owner: Owner, loops: number): Reservation {
    this.#take(this.#superblocks, owner, 1);
    const reservation = { owner, loops: 0 };
    try {
      if (loops > 0) this.reserveLoops(reservation, loops);
    } catch (error) {
      this.cancel(reservation);
      throw error;
    }
    return reservation;
  }

  /** The mount needs loop devices after all. Throws LimitExceeded; the reservation is still there. */
  reserveLoops(reservation: Reservation, loops: number): void {
    this.#take(this.#loops, reservation.owner, loops);
    reservation.loops += loops;
  }

  /**
   * `makeRoom` is called before somebody is refused; no user stands for all of them. `sweeping` answers a sweep that is under way:
   * superblocks may be gone after it that nobody else holds.
   */
  onShort(makeRoom: (user: number | undefined) => void, sweeping: () => Promise<void> | undefined): void {
    this.#makeRoom = makeRoom;
    this.#sweeping = sweeping;
  }

  /**
   * What `take` gives. Where it throws LimitExceeded and a sweep is under way, what `again` gives after that: whoever gives up a
   * mount and asks for another at once is not refused for what only the service still holds.
   */
  withRoom<Taken>(take: () => Taken, again: () => Taken = take): Taken | Promise<Taken> {
    try {
      return take();
    } catch (error) {
      const sweeping = error instanceof LimitExceeded ? this.#sweeping() : undefined;
      if (sweeping === undefined) throw error;
      return sweeping.then(again);
    }
  }

  /** Takes `bytes` for a copy that is to be made. Throws LimitExceeded. The caller is the first holder. */
  reserveCopy(owner: Owner, bytes: number): CopyShare {
    this.#take(this.#copied, owner, bytes);
    return new CopyShare(bytes, () => {
      this.#copied.give(owner, bytes);
    });
  }

  #take(shares: Shares, owner: Owner, count: number): void {
    let met = shares.take(owner, count);
    if (met !== undefined) {
      // What has gone since the event loop's last look, or is kept without need, is no reason to refuse.
      this.#makeRoom(met.limit.endsWith('PerUser') ? owner.user : undefined);
      this.drain();
      met = shares.take(owner, count);
    }
    if (met !== undefined) throw new LimitExceeded({ ...met });
  }

  /** Takes note of what has gone by now. */
  drain(): void {
    this.#watches.drain();
  }

  /** Takes `bytes` of an image of which nobody has said yet who vouches for it; what gives them back. Throws LimitExceeded. */
  reserveUnverified(owner: Owner, bytes: number): () => void {
    const met = this.#unverified.take(owner, bytes);
    if (met !== undefined) throw new LimitExceeded({ ...met });
    let held = true;
    return () => {
      if (held) this.#unverified.give(owner, bytes);
      held = false;
    };
  }

  /** The mount was not made after all. */
  cancel(reservation: Reservation): void {
    this.#superblocks.give(reservation.owner, 1);
    if (reservation.loops > 0) this.#loops.give(reservation.owner, reservation.loops);
  }

  /**
   * The mount was made: the share stays taken, `copy` held, and the answer listed until the superblock of `mountFd` is
   * gone. Throws LimitExceeded where the kernel has no more watches; then the share is given back.
   */
  watch(
    mountFd: number,
    reservation: Reservation,
    kept: { readonly copy: CopyShare | undefined; readonly record: MountRecord | undefined },
  ): LiveMount {
    const live = new LiveMount(reservation.owner, this.#recordedBytes);
    if (kept.record !== undefined) live.add(kept.record, reservation.owner);
    try {
      const { owner, loops } = reservation;
      this.#watches.add(mountFd, { owner, loops, copiedBytes: kept.copy?.bytes ?? 0 }, () => {
        this.#live.delete(live);
        live.end();
        kept.copy?.release();
        this.cancel(reservation);
      });
    } catch (error) {
      live.end();
      this.cancel(reservation);
      if (isSyscallError(error, 'ENOSPC')) {
        throw new LimitExceeded({ limit: 'fs.inotify', value: this.#live.size });
      }
      throw error;
    }
    kept.copy?.hold();
    this.#live.add(live);
    return live;
  }

  /** What is in use now, as far as known: nothing that was handed out before this process began. */
  live(): readonly LiveMount[] {
    return [...this.#live];
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#watches.close();
  }

  /** Bytes of copies, superblocks and loop devices that are taken, for the checks against leaks. */
  get totals(): { readonly superblocks: number; readonly loopDevices: number; readonly copiedBytes: number } {
    return {
      superblocks: this.#superblocks.total,
      loopDevices: this.#loops.total,
      copiedBytes: this.#copied.total,
    };
  }
}
