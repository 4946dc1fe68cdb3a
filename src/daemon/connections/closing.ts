import { Worker } from 'node:worker_threads';
import { closesAtOnce } from '../../sys/closes-at-once.ts';
import { FairSplit } from '../callers/fair-split.ts';
import type { Owner } from '../callers/owner.ts';
import { threadFile } from '../threads/thread-file.ts';

/** How many closers there may be, and how many of them may wait for work. */
export interface ClosingLimits {
  readonly threads: number;
  readonly idleThreads: number;
}

/** Descriptors that are closed together, and who wants to know. */
interface Batch {
  readonly fds: readonly number[];
  readonly closed: (() => void) | undefined;
}

/** What a closer was given, and by whose lane. */
interface Work {
  readonly lane: Lane;
  readonly batches: readonly Batch[];
}

const laneKinds: readonly LaneKind[] = ['at once', 'may wait'];

function laneKey(user: number, kind: LaneKind): string {
  return `${user} ${kind}`;
}

/** A thread, and the count of what it has begun to close of what it was given last, which it writes as it goes. */
interface Closer {
  readonly worker: Worker;
  readonly begun: Int32Array;
}

function descriptorsIn(batches: readonly Batch[]): number {
  return batches.reduce((sum, { fds }) => sum + fds.length, 0);
}

/** After a thread could not be started, for want of descriptors or memory: trying again at once would spin. */
const retryMilliseconds = 1000;

/** What a lane is for: descriptors whose closing waits for nobody, or all others. */
type LaneKind = 'at once' | 'may wait';

/** One user's descriptors of one kind that wait to be closed, oldest first. */
interface Lane {
  readonly owner: Owner;
  readonly kind: LaneKind;
  waiting: Batch[];
  /** How many descriptors are not closed yet, those included that a closer is at. */
  backlog: number;
  closing: boolean;
}

/**
 * Closes the descriptors that peers sent, where a close(2) that never returns hurts nobody else: a FUSE server may
 * leave a flush unanswered, and SO_LINGER makes a close wait for as long as the sender chose. Each user has a lane,
 * each lane at most one closer at a time, so that a close that hangs holds that user's lane alone. Closers are split
 * fairly among groups of users (fair-split.ts), so that many lanes of one group do not hold them all. What is certain to wait
 * for nobody (closes-at-once.ts) has lanes and one closer more of its own, whoever holds the others.
 */
export class Closing {
  readonly #limits: ClosingLimits;
  readonly #onBug: (error: unknown) => void;
  readonly #lanes = new Map<string, Lane>();
  readonly #ready: Lane[] = [];
  readonly #idle: Closer[] = [];
  readonly #threads = new Set<Closer>();
  readonly #working = new Map<Closer, Work>();
  readonly #split = new FairSplit();
  /** Whether a closer is at what closes at once. */
  #atOnce = false;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  /** `onBug` is told of descriptors that were closed already. */
  constructor(limits: ClosingLimits, onBug: (error: unknown) => void) {
    this.#limits = limits;
    this.#onBug = onBug;
    // A thread takes some 40 milliseconds to start; the first peer need not wait for that.
    this.#idle.push(this.#start());
  }

  /** Takes over `fds` and closes them later, in their user's lane; then `closed` is called. */
  close(fds: readonly number[], owner: Owner, closed?: () => void): void {
    const atOnce = fds.filter(closesAtOnce);
    if (atOnce.length === 0 || atOnce.length === fds.length) {
      this.#queue(owner, atOnce.length === 0 ? 'may wait' : 'at once', { fds, closed });
    } else {
      const mayWait = fds.filter((fd) => !atOnce.includes(fd));
      let left = 2;
      const each = (): void => {
        left -= 1;
        if (left === 0) closed?.();
      };
      this.#queue(owner, 'at once', { fds: atOnce, closed: each });
      this.#queue(owner, 'may wait', { fds: mayWait, closed: each });
    }
    this.#dispatch();
  }

  #queue(owner: Owner, kind: LaneKind, batch: Batch): void {
    if (batch.fds.length === 0) return;
    const key = laneKey(owner.user, kind);
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { owner, kind, waiting: [], backlog: 0, closing: false };
      this.#lanes.set(key, lane);
    }
    if (lane.waiting.length === 0 && !lane.closing) this.#ready.push(lane);
    lane.waiting.push(batch);
    lane.backlog += batch.fds.length;
  }

  /** How many descriptors of `user` are not closed yet, those that hang included. */
  backlog(user: number): number {
    const lanes = laneKinds.map((kind) => this.#lanes.get(laneKey(user, kind)));
    return lanes.reduce((sum, lane) => sum + (lane?.backlog ?? 0), 0);
  }

  /** Threads that exist, for the checks against leaks. */
  get threads(): number {
    return this.#threads.size;
  }

  /**
   * Ends the closers that are idle. One that hangs in a close(2) cannot be ended: the process has to leave by
   * exitNow (sys/exit.ts), which waits for no thread.
   */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    for (const closer of this.#idle.splice(0)) this.#end(closer);
  }

  #dispatch(): void {
    while (this.#retry === undefined) {
      const index = this.#ready.findIndex((lane) => this.#mayGive(lane));
      if (index < 0) return;
      for (const lane of this.#ready.splice(index, 1)) this.#give(this.#idle.pop() ?? this.#start(), lane);
    }
  }

  /** The limit is one of closers that may be left waiting. */
  #mayGive({ owner, kind }: Lane): boolean {
    return kind === 'at once' ? !this.#atOnce : this.#split.mayTake(owner, 1, this.#limits.threads);
  }

  #give(closer: Closer, lane: Lane): void {
    const batches = lane.waiting;
    const fds = batches.flatMap((batch) => batch.fds);
    lane.waiting = [];
    lane.closing = true;
    if (lane.kind === 'at once') this.#atOnce = true;
    else this.#split.take(lane.owner, 1);
    this.#working.set(closer, { lane, batches });
    Atomics.store(closer.begun, 0, 0);
    closer.worker.postMessage(fds);
  }

  #closed(closer: Closer, faults: readonly string[]): void {
    const work = this.#working.get(closer);
    if (work === undefined) return;
    for (const fault of faults) this.#onBug(new Error(fault));
    this.#leave(closer, work, descriptorsIn(work.batches), []);
    if (this.#stopped || (this.#ready.length === 0 && this.#idle.length >= this.#limits.idleThreads)) {
      this.#end(closer);
    } else {
      this.#idle.push(closer);
    }
    this.#dispatch();
    for (const { closed } of work.batches) closed?.();
  }

  /** The closer is at `work` no longer: `gone` of its descriptors need no closing any more, and the next one closes `left`. */
  #leave(closer: Closer, { lane }: Work, gone: number, left: readonly Batch[]): void {
    this.#working.delete(closer);
    if (lane.kind === 'at once') this.#atOnce = false;
    else this.#split.give(lane.owner, 1);
    lane.closing = false;
    lane.backlog -= gone;
    lane.waiting = [...left, ...lane.waiting];
    if (lane.waiting.length > 0) this.#ready.push(lane);
    else if (lane.backlog === 0) this.#lanes.delete(laneKey(lane.owner.user, lane.kind));
  }

  /**
   * The thread is gone, and another takes its place: it closes what this one had not begun with. The one that it was at is
   * not touched again, because its number may be another file's by now: it stays in its user's backlog.
   */
  #failed(closer: Closer): void {
    this.#threads.delete(closer);
    const index = this.#idle.indexOf(closer);
    if (index >= 0) this.#idle.splice(index, 1);
    const work = this.#working.get(closer);
    if (work !== undefined) {
      const begun = Atomics.load(closer.begun, 0);
      const { closed, left } = divide(work.batches, begun);
      this.#leave(closer, work, Math.max(begun - 1, 0), left);
      for (const batch of closed) batch.closed?.();
    }
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#dispatch();
    }, retryMilliseconds);
  }

  #start(): Closer {
    const begun = new Int32Array(new SharedArrayBuffer(4));
    // Without trackUnmanagedFds: false, Node would close descriptors that it believes the thread to have left behind.
    const worker = new Worker(threadFile('connections/closing-thread'), {
      trackUnmanagedFds: false,
      workerData: begun.buffer,
      // A larger nursery would only be memory that nobody gives back.
      resourceLimits: { maxYoungGenerationSizeMb: 1 },
    });
    const closer: Closer = { worker, begun };
    worker.unref();
    worker.on('message', (faults: readonly string[]) => {
      this.#closed(closer, faults);
    });
    worker.on('error', this.#onBug);
    worker.on('exit', () => {
      if (this.#threads.has(closer)) this.#failed(closer);
    });
    this.#threads.add(closer);
    return closer;
  }

  /** It ends by itself: ending a thread from outside while it is in native code ends the process. */
  #end(closer: Closer): void {
    this.#threads.delete(closer);
    closer.worker.postMessage('end');
  }
}

/**
 * What a closer that is gone leaves of `batches`, where the descriptor number `begun` was its last: of that batch only those
 * behind it, and whoever wants to know when all of it is closed never will.
 */
export function divide(
  batches: readonly Batch[],
  begun: number,
): { readonly closed: readonly Batch[]; readonly left: readonly Batch[] } {
  const closed: Batch[] = [];
  const left: Batch[] = [];
  let start = 0;
  for (const batch of batches) {
    const end = start + batch.fds.length;
    if (start >= begun) left.push(batch);
    else if (end < begun) closed.push(batch);
    else if (end > begun) left.push({ fds: batch.fds.slice(begun - start), closed: undefined });
    start = end;
  }
  return { closed, left };
}
