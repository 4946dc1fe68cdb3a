import { Worker } from 'node:worker_threads';
import { FairSplit } from './fair-split.ts';
import type { Owner } from './owner.ts';
import { threadFile } from './thread-file.ts';

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

/** After a thread could not be started, for want of descriptors or memory: trying again at once would spin. */
const retryMilliseconds = 1000;

/** One user's descriptors that wait to be closed, oldest first. */
interface Lane {
  readonly owner: Owner;
  waiting: Batch[];
  /** How many descriptors are not closed yet, those included that a closer is at. */
  backlog: number;
  closing: boolean;
}

/**
 * Closes the descriptors that peers sent, where a close(2) that never returns hurts nobody else: a FUSE server may
 * leave a flush unanswered, and SO_LINGER makes a close wait for as long as the sender chose. Each user has a lane,
 * each lane at most one closer at a time, so that a close that hangs holds that user's lane alone. Closers are split
 * fairly among groups of users (fair-split.ts), so that many lanes of one group do not hold them all.
 */
export class Closing {
  readonly #limits: ClosingLimits;
  readonly #onBug: (error: unknown) => void;
  readonly #lanes = new Map<number, Lane>();
  readonly #ready: Lane[] = [];
  readonly #idle: Worker[] = [];
  readonly #threads = new Set<Worker>();
  readonly #working = new Map<Worker, Work>();
  readonly #split = new FairSplit();
  /** Those that have loaded their program. */
  readonly #started = new WeakSet<Worker>();
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
    if (fds.length === 0) return;
    let lane = this.#lanes.get(owner.user);
    if (lane === undefined) {
      lane = { owner, waiting: [], backlog: 0, closing: false };
      this.#lanes.set(owner.user, lane);
    }
    if (lane.waiting.length === 0 && !lane.closing) this.#ready.push(lane);
    lane.waiting.push({ fds, closed });
    lane.backlog += fds.length;
    this.#dispatch();
  }

  /** How many descriptors of `user` are not closed yet, those that hang included. */
  backlog(user: number): number {
    return this.#lanes.get(user)?.backlog ?? 0;
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
    for (const worker of this.#idle.splice(0)) this.#end(worker);
  }

  #dispatch(): void {
    const { threads } = this.#limits;
    while (this.#retry === undefined) {
      const index = this.#ready.findIndex(({ owner }) => this.#split.mayTake(owner, 1, threads));
      const worker = index < 0 ? undefined : this.#worker();
      if (worker === undefined) return;
      for (const lane of this.#ready.splice(index, 1)) this.#give(worker, lane);
    }
  }

  #worker(): Worker | undefined {
    return this.#idle.pop() ?? (this.#threads.size < this.#limits.threads ? this.#start() : undefined);
  }

  #give(worker: Worker, lane: Lane): void {
    const batches = lane.waiting;
    const fds = batches.flatMap((batch) => batch.fds);
    lane.waiting = [];
    lane.closing = true;
    this.#split.take(lane.owner, 1);
    this.#working.set(worker, { lane, batches });
    worker.postMessage(fds);
  }

  #closed(worker: Worker, faults: readonly string[]): void {
    const work = this.#working.get(worker);
    if (work === undefined) return;
    this.#working.delete(worker);
    const { lane, batches } = work;
    this.#split.give(lane.owner, 1);
    for (const fault of faults) this.#onBug(new Error(fault));
    lane.closing = false;
    lane.backlog -= batches.reduce((sum, { fds }) => sum + fds.length, 0);
    if (lane.waiting.length > 0) this.#ready.push(lane);
    else this.#lanes.delete(lane.owner.user);
    if (this.#stopped || (this.#ready.length === 0 && this.#idle.length >= this.#limits.idleThreads)) {
      this.#end(worker);
    } else {
      this.#idle.push(worker);
    }
    this.#dispatch();
    for (const { closed } of batches) closed?.();
  }

  /** The thread is gone. One that could not even start has closed nothing: its work waits for the next. */
  #failed(worker: Worker, error: unknown): void {
    this.#onBug(error);
    this.#threads.delete(worker);
    const index = this.#idle.indexOf(worker);
    if (index >= 0) this.#idle.splice(index, 1);
    const work = this.#working.get(worker);
    this.#working.delete(worker);
    if (work !== undefined) this.#split.give(work.lane.owner, 1);
    if (work !== undefined && !this.#started.has(worker)) {
      work.lane.closing = false;
      work.lane.waiting = [...work.batches, ...work.lane.waiting];
      this.#ready.push(work.lane);
    }
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#dispatch();
    }, retryMilliseconds);
  }

  #start(): Worker {
    // Without trackUnmanagedFds: false, Node would close descriptors that it believes the thread to have left behind.
    const worker = new Worker(threadFile('closing-thread'), { trackUnmanagedFds: false });
    worker.unref();
    worker.on('message', (answer: readonly string[] | 'started') => {
      if (answer === 'started') this.#started.add(worker);
      else this.#closed(worker, answer);
    });
    worker.on('error', (error: unknown) => {
      this.#failed(worker, error);
    });
    this.#threads.add(worker);
    return worker;
  }

  /** It ends by itself: ending a thread from outside while it is in native code ends the process. */
  #end(worker: Worker): void {
    this.#threads.delete(worker);
    worker.postMessage('end');
  }
}
