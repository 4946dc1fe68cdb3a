import { Worker } from 'node:worker_threads';
import { LimitExceeded, TimedOut } from '../../api/mount-delegation.ts';
import { closeFd } from '../../sys/fd.ts';
import { duplicate } from '../../sys/file.ts';
import { FairSplit } from '../callers/fair-split.ts';
import type { Owner } from '../callers/owner.ts';
import { fromFailure } from './failures.ts';
import type { TaskAnswer, TaskKind, TaskMessage, TaskOf, TaskResult } from './tasks.ts';
import { threadFile } from './thread-file.ts';

/**
 * How long a thread that has read images waits for work before a new one takes its place. V8 gives no memory back on
 * its own: after a large image it holds some 40 megabytes until it ends, a new one 10.
 */
const idleMilliseconds = 1000;

/** What a task makes is mostly large and outside of V8's heap: a larger nursery would only be memory that nobody gives back. */
const youngGenerationMegabytes = 2;

/** How the pool is bounded. */
export interface PoolLimits {
  /** Threads at work or idle. More than one waits only while there is work for them. */
  readonly threads: number;
  /** Threads at work for one user, those written off included. */
  readonly threadsPerUser: number;
  /** Threads that are written off and have not returned. */
  readonly lostThreads: number;
  /** Tasks of one user that wait. */
  readonly waitingPerUser: number;
  /** After this long, a task that a client can stall is given up. */
  readonly stallMilliseconds: number;
}

/** How a task is run. */
export interface TaskOptions {
  /** For whom: the user whose share of threads it takes. */
  readonly owner: Owner;
  /** Whether a client can leave the task waiting (its FUSE, its NFS, its lease): then it has a time limit. */
  readonly stallable: boolean;
}

interface Job {
  readonly message: TaskMessage;
  readonly options: TaskOptions;
  readonly resolve: (result: TaskResult<TaskKind>) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  job: Job | undefined;
  /** Has it read an image, or what a store lacks of one? */
  grown: boolean;
  /** Ends what the thread is at: a task that a client stalls, or waiting for work. */
  timer: NodeJS.Timeout | undefined;
  lost: boolean;
  ended: boolean;
}

/** What the pool needs of its surroundings. */
export interface PoolOptions {
  readonly limits: PoolLimits;
  /** Closes descriptors that a client sent, or that were made from them, where that may hang (closing.ts). */
  readonly closing: { close(fds: readonly number[], owner: Owner): void };
  /** Told of what should never happen. */
  readonly onBug: (error: unknown) => void;
}

/**
 * Threads that do what may take long. Each has a Stage of its own (sys/stage.ts). A client that lets a task stall
 * waits for itself alone: at the time limit its caller gets TimedOut, the thread is written off and replaced, and
 * the client's user has one thread less until the thread returns.
 */
export class Pool {
  readonly #options: PoolOptions;
  readonly #threads = new Set<Thread>();
  readonly #idle: Thread[] = [];
  /** Waiting tasks by user, in a ring: whoever was served goes to its end. */
  readonly #waiting = new Map<number, Job[]>();
  readonly #busy = new Map<number, number>();
  /** Threads at work, those written off not among them; of these, those that a client can stall; and those written off. */
  readonly #working = new FairSplit();
  readonly #stallable = new FairSplit();
  readonly #lost = new FairSplit();
  #stopped = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#idle.push(this.#start());
  }

  /**
   * Runs `task` with `fds` on a thread. The thread works with duplicates, so that the caller may close its own at
   * any time. Rejects with the error of the task (failures.ts), with TimedOut, or with LimitExceeded when the user
   * has too many tasks waiting or every thread of the user's share is lost.
   */
  run<Kind extends TaskKind>(
    task: TaskOf<Kind>,
    fds: readonly number[],
    options: TaskOptions,
  ): Promise<TaskResult<Kind>> {
    const { limits } = this.#options;
    const user = options.owner.user;
    if (options.stallable && !this.#lost.mayTake(options.owner, 1, limits.lostThreads)) {
      return Promise.reject(new LimitExceeded({ limit: 'lostThreads', value: limits.lostThreads }));
    }
    const queue = this.#waiting.get(user) ?? [];
    if (queue.length >= limits.waitingPerUser) {
      return Promise.reject(
        new LimitExceeded({ limit: 'waitingTasksPerUser', value: limits.waitingPerUser }),
      );
    }
    if (this.#share(user) <= 0) {
      return Promise.reject(new LimitExceeded({ limit: 'threadsPerUser', value: limits.threadsPerUser }));
    }
    const message = { task, fds: duplicateAll(fds) };
    return new Promise((resolve, reject) => {
      // The thread answers a task of one kind with that kind's value (tasks.ts, TaskValues).
      const job = { message, options, resolve: resolve as Job['resolve'], reject };
      queue.push(job);
      this.#waiting.set(user, queue);
      this.#dispatch();
    });
  }

  /** Threads that exist, and how many of them are written off, for the checks against leaks. */
  get threads(): { readonly all: number; readonly lost: number } {
    return { all: this.#threads.size, lost: this.#lost.total };
  }

  /**
   * Refuses what waits and ends the idle threads. One that hangs in the kernel cannot be ended: the process has to
   * leave by exitNow (sys/exit.ts), which waits for no thread.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const job of [...this.#waiting.values()].flat()) {
      this.#release(job);
      job.reject(new Error('the daemon is stopping'));
    }
    this.#waiting.clear();
    await Promise.all(this.#idle.splice(0).map((thread) => this.#end(thread)));
  }

  /** How many threads `user` may still use. Threads that were lost count until they return. */
  #share(user: number): number {
    let lost = 0;
    for (const thread of this.#threads) if (thread.lost && thread.job?.options.owner.user === user) lost += 1;
    return this.#options.limits.threadsPerUser - lost;
  }

  #dispatch(): void {
    for (let job = this.#next(); job !== undefined; job = this.#next()) {
      const thread = this.#idle.pop() ?? this.#start();
      this.#give(thread, job);
    }
  }

  /** The next task that has room, taken from its queue. */
  #next(): Job | undefined {
    const { limits } = this.#options;
    if (this.#stopped) return undefined;
    if (this.#idle.length === 0 && this.#threads.size - this.#lost.total >= limits.threads) return undefined;
    for (const [user, queue] of this.#waiting) {
      if ((this.#busy.get(user) ?? 0) >= limits.threadsPerUser) continue;
      const index = queue.findIndex((job) => this.#mayRun(job.options));
      if (index < 0) continue;
      const [job] = queue.splice(index, 1);
      this.#waiting.delete(user);
      if (queue.length > 0) this.#waiting.set(user, queue);
      return job;
    }
    return undefined;
  }

  // What clients can stall has half of the threads, so that it never holds up what they cannot.
  #mayRun({ owner, stallable }: TaskOptions): boolean {
    const { threads } = this.#options.limits;
    if (!this.#working.mayTake(owner, 1, threads)) return false;
    return !stallable || this.#stallable.mayTake(owner, 1, Math.ceil(threads / 2));
  }

  #count({ owner, stallable }: TaskOptions, change: 'take' | 'give'): void {
    this.#working[change](owner, 1);
    if (stallable) this.#stallable[change](owner, 1);
  }

  #give(thread: Thread, job: Job): void {
    this.#count(job.options, 'take');
    const user = job.options.owner.user;
    this.#busy.set(user, (this.#busy.get(user) ?? 0) + 1);
    clearTimeout(thread.timer);
    thread.job = job;
    thread.grown ||= job.message.task.kind === 'scan' || job.message.task.kind === 'missing';
    if (job.options.stallable) {
      thread.timer = setTimeout(() => {
        this.#lose(thread, job);
      }, this.#options.limits.stallMilliseconds);
    }
    thread.worker.ref();
    thread.worker.postMessage(job.message);
  }

  #lose(thread: Thread, job: Job): void {
    thread.lost = true;
    thread.worker.unref();
    this.#count(job.options, 'give');
    this.#lost.take(job.options.owner, 1);
    job.reject(new TimedOut({ milliseconds: this.#options.limits.stallMilliseconds }));
    this.#refuseIfSpent(job.options.owner.user);
    this.#dispatch();
  }

  /** Where a user has lost every thread, what that user has waiting will not run either. */
  #refuseIfSpent(user: number): void {
    if (this.#share(user) > 0) return;
    const { threadsPerUser } = this.#options.limits;
    for (const job of this.#waiting.get(user) ?? []) {
      this.#release(job);
      job.reject(new LimitExceeded({ limit: 'threadsPerUser', value: threadsPerUser }));
    }
    this.#waiting.delete(user);
  }

  #answered(thread: Thread, answer: TaskAnswer): void {
    const { job } = thread;
    if (job === undefined) return;
    clearTimeout(thread.timer);
    thread.worker.unref();
    thread.job = undefined;
    const user = job.options.owner.user;
    const busy = (this.#busy.get(user) ?? 0) - 1;
    if (busy > 0) this.#busy.set(user, busy);
    else this.#busy.delete(user);
    this.#release(job);
    if (thread.lost) {
      // Nobody waits for it any more, and another thread has its place.
      this.#lost.give(job.options.owner, 1);
      if (answer.ok) this.#options.closing.close(answer.result.fds, job.options.owner);
      void this.#end(thread);
      this.#dispatch();
      return;
    }
    this.#count(job.options, 'give');
    this.#rest(thread);
    if (answer.ok) job.resolve(answer.result);
    else job.reject(fromFailure(answer.failure));
    this.#dispatch();
  }

  /** A thread without work: one stays, or another in its place, and as many more as there are tasks waiting. */
  #rest(thread: Thread): void {
    if (thread.ended) return;
    if (this.#stopped || (this.#idle.length > 1 && this.#waiting.size === 0)) {
      void this.#end(thread);
      return;
    }
    this.#idle.push(thread);
    if (!thread.grown) return;
    thread.timer = setTimeout(() => {
      this.#replace(thread);
    }, idleMilliseconds).unref();
  }

  #replace(thread: Thread): void {
    const index = this.#idle.indexOf(thread);
    if (index < 0) return;
    this.#idle.splice(index, 1);
    void this.#end(thread);
    if (this.#idle.length === 0) this.#idle.push(this.#start());
  }

  /** The thread's duplicates are the client's files: closing them may hang where the task stalled. */
  #release(job: Job): void {
    if (job.options.stallable) this.#options.closing.close(job.message.fds, job.options.owner);
    else for (const fd of job.message.fds) closeFd(fd);
  }

  #start(): Thread {
    // Without trackUnmanagedFds: false, Node would close descriptors that it believes the thread to have left behind.
    const worker = new Worker(threadFile('threads/mounting-thread'), {
      trackUnmanagedFds: false,
      resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMegabytes },
    });
    worker.unref();
    const thread: Thread = {
      worker,
      job: undefined,
      grown: false,
      timer: undefined,
      lost: false,
      ended: false,
    };
    worker.on('message', (answer: TaskAnswer) => {
      this.#answered(thread, answer);
    });
    worker.on('error', (error: unknown) => {
      this.#options.onBug(error);
      thread.ended = true;
      this.#threads.delete(thread);
      const index = this.#idle.indexOf(thread);
      if (index >= 0) this.#idle.splice(index, 1);
      this.#answered(thread, {
        ok: false,
        failure: { kind: 'bug', message: 'the thread ended', stack: undefined },
      });
    });
    this.#threads.add(thread);
    return thread;
  }

  /** The thread ends by itself: ending it from outside while it is in native code ends the process. */
  async #end(thread: Thread): Promise<void> {
    this.#threads.delete(thread);
    clearTimeout(thread.timer);
    thread.worker.ref();
    const ended = new Promise((resolve) => thread.worker.once('exit', resolve));
    thread.worker.postMessage('end');
    await ended;
  }
}

function duplicateAll(fds: readonly number[]): number[] {
  const made: number[] = [];
  try {
    for (const fd of fds) made.push(duplicate(fd).take());
  } catch (error) {
    for (const fd of made) closeFd(fd);
    throw error;
  }
  return made;
}
