import { Worker } from 'node:worker_threads';

import type { Added, AddingAnswer, AddingRequest } from './adding.ts';
import { addFiles, fromAddingFault } from './adding.ts';
import type { ObjectStore, StoredObject } from './objects.ts';

/** How many files, or bytes, go to a thread at a time: messages are to cost little beside them. */
const batchFilesMax = 64;
const batchBytesMax = 1024 * 1024;
/** How many batches a thread has, one under way and others waiting, before the caller's own thread takes the next. */
const batchesAhead = 5;
/** How many files are open at once at most, however many threads: 1024 is all that a process may have in some places. */
const filesAtOnceMax = 768;
/** What is added here before threads are started: they take as long to start as this much takes to add. */
const aloneFilesMax = 200;
const aloneBytesMax = 8 * 1024 * 1024;

interface Waiting {
  readonly fd: number;
  readonly resolve: (stored: StoredObject) => void;
  readonly reject: (error: Error) => void;
}

interface Batch {
  readonly waiting: readonly Waiting[];
  readonly thread: Thread;
}

interface Thread {
  readonly worker: Worker;
  /** Batches that are on their way through it. */
  load: number;
}

/**
 * Adds files to a store on several threads, once there are enough of them. Descriptors stay the caller's, who keeps them open
 * until the promise is settled. Close it at the end, whatever happened: it ends the threads.
 */
export class ObjectThreads implements AsyncDisposable {
  /** How many files are best under way at once, so that no thread waits. */
  readonly filesAtOnce: number;
  readonly #store: ObjectStore;
  readonly #count: number;
  #threads: readonly Thread[] = [];
  #seen = { files: 0, bytes: 0 };
  #next: { waiting: Waiting[]; bytes: number } = { waiting: [], bytes: 0 };
  #flushing = false;
  #id = 0;
  readonly #batches = new Map<number, Batch>();
  readonly #syncs = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();

  /**
   * `count` threads (1 or more) in all. One of them is the caller's own, which reads directories meanwhile, and adds what the
   * others do not get to.
   */
  constructor(store: ObjectStore, count: number) {
    this.#store = store;
    this.#count = count - 1;
    const batches = this.#count * batchesAhead + 1;
    this.filesAtOnce = count === 1 ? 16 : Math.min(batches * batchFilesMax, filesAtOnceMax);
  }

  /** As ObjectStore.add does, for a file of `size` bytes. */
  add(fd: number, size: number): Promise<StoredObject> {
    this.#seen.files++;
    this.#seen.bytes += size;
    const alone = this.#seen.files <= aloneFilesMax && this.#seen.bytes <= aloneBytesMax;
    if (this.#count === 0 || alone) return this.#store.add(fd);
    return new Promise((resolve, reject) => {
      this.#next.waiting.push({ fd, resolve, reject });
      this.#next.bytes += size;
      if (this.#next.waiting.length >= batchFilesMax || this.#next.bytes >= batchBytesMax) this.#flush();
      else this.#flushSoon();
    });
  }

  /** Brings the names of everything added to the disk. */
  async sync(): Promise<void> {
    await this.#store.sync();
    await Promise.all(this.#threads.map((thread) => this.#syncThread(thread)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  /** Sends what waits once the caller has nothing more to add for now. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      if (this.#next.waiting.length > 0) this.#flush();
    });
  }

  #flush(): void {
    const { waiting } = this.#next;
    this.#next = { waiting: [], bytes: 0 };
    if (this.#threads.length === 0) this.#threads = Array.from({ length: this.#count }, () => this.#start());
    const thread = this.#threads.reduce((least, other) => (other.load < least.load ? other : least));
    const fds = waiting.map(({ fd }) => fd);
    if (thread.load >= batchesAhead) {
      // Not at once: answers of the other threads come in between.
      setImmediate(
        () =>
          void addFiles(this.#store, fds).then((files) => {
            settle(waiting, files);
          }),
      );
      return;
    }
    const id = this.#id++;
    thread.load++;
    this.#batches.set(id, { waiting, thread });
    send(thread, { kind: 'add', id, fds });
  }

  #syncThread(thread: Thread): Promise<void> {
    return new Promise((resolve, reject) => {
      const id = this.#id++;
      this.#syncs.set(id, { resolve, reject });
      send(thread, { kind: 'sync', id });
    });
  }

  #start(): Thread {
    const worker = new Worker(threadFile(), {
      workerData: this.#store.path,
      trackUnmanagedFds: false,
      // What it makes is short-lived and small: a larger nursery would only be memory that nobody gives back.
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    });
    worker.on('message', (answer: AddingAnswer) => {
      this.#answered(answer);
    });
    worker.on('error', (error) => {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    });
    return { worker, load: 0 };
  }

  #answered({ id, files, fault }: AddingAnswer): void {
    const sync = this.#syncs.get(id);
    this.#syncs.delete(id);
    if (fault === undefined) sync?.resolve();
    else sync?.reject(fromAddingFault(fault));
    const batch = this.#batches.get(id);
    if (batch === undefined) return;
    this.#batches.delete(id);
    batch.thread.load--;
    settle(batch.waiting, files);
  }

  /** A thread ended: nobody knows what became of its files. */
  #fail(error: Error): void {
    for (const { waiting } of this.#batches.values()) for (const { reject } of waiting) reject(error);
    for (const { reject } of this.#syncs.values()) reject(error);
    this.#batches.clear();
    this.#syncs.clear();
  }
}

function settle(waiting: readonly Waiting[], files: readonly Added[]): void {
  waiting.forEach(({ resolve, reject }, index) => {
    const added = files[index];
    if (added === undefined) reject(new Error('a file without an answer'));
    else if (added.fault === undefined) resolve(added);
    else reject(fromAddingFault(added.fault));
  });
}

function send({ worker }: Thread, request: AddingRequest): void {
  worker.postMessage(request);
}

/** The bundle of the thread's program: in the folder `store` beside that of the programs, or in dist when the sources run as they are. */
function threadFile(): URL {
  const here = import.meta.url;
  return new URL(
    here.endsWith('.ts') ? '../../dist/store/adding-thread.cjs' : '../store/adding-thread.cjs',
    here,
  );
}
