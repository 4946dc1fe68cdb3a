import type { Digest } from '../../base/digest.ts';
import { recordAgeMilliseconds } from '../../store/handed-out.ts';
import type { ObjectTable } from '../threads/object-table.ts';
import { service, type Owner } from '../callers/owner.ts';
import type { Pool } from '../threads/pool.ts';

/** From this age on a record is brought up to date in good time, and nobody waits for it. */
const renewMilliseconds = recordAgeMilliseconds / 2;

/** How often records that nobody needs any more are looked for. */
const pruneMilliseconds = 60 * 60 * 1000;

/** So that what is remembered of them does not grow for ever. */
const rememberedMax = 4096;

/** What keeping records needs. */
export interface HandoutRecordsOptions {
  readonly pool: Pick<Pool, 'run'>;
  readonly stateDirectory: string;
  /** Told why old records could not be removed. */
  readonly onFault: (error: unknown) => void;
}

/**
 * Has it on record which images are handed out, before they are: whoever collects garbage, now or after this process was
 * killed, leaves their objects in the stores (store/handed-out.ts). It is written on a thread, so that nobody waits for the
 * disk but who asks for an image that nobody had within the last two minutes.
 */
export class HandoutRecords {
  readonly #options: HandoutRecordsOptions;
  /** When each was last written (milliseconds since 1970), the one written longest ago first. */
  readonly #written = new Map<Digest, number>();
  readonly #writing = new Map<Digest, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: HandoutRecordsOptions) {
    this.#options = options;
  }

  /**
   * Has the image on record; undefined where it is already. Once that is so, its objects stay for an hour at least. Rejects with
   * LimitExceeded, SyscallError: then it must not be handed out.
   */
  cover(digest: Digest, objects: ObjectTable, owner: Owner): Promise<void> | undefined {
    const now = Date.now();
    const age = now - (this.#written.get(digest) ?? 0);
    // The clock may have been set back.
    if (age >= 0 && age < renewMilliseconds) return undefined;
    const writing = this.#writing.get(digest) ?? this.#begin(digest, objects, owner, now);
    if (age < 0 || age >= recordAgeMilliseconds) return writing;
    // Where that fails, the first who needs it is told.
    writing.catch(() => undefined);
    return undefined;
  }

  /** Removes the records that nobody needs, now and every hour. */
  beginPruning(): void {
    this.#timer = setInterval(() => void this.#prune(), pruneMilliseconds).unref();
    void this.#prune();
  }

  /** Begins nothing any more. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  #begin(digest: Digest, objects: ObjectTable, owner: Owner, now: number): Promise<void> {
    const writing = this.#write(digest, objects, owner, now).finally(() => this.#writing.delete(digest));
    this.#writing.set(digest, writing);
    return writing;
  }

  async #write(digest: Digest, objects: ObjectTable, owner: Owner, now: number): Promise<void> {
    const { pool, stateDirectory } = this.#options;
    const options = { owner, stallable: false };
    const known = {
      kind: 'renewRecord',
      stateDirectory,
      digest,
      hasObjects: objects.count > 0,
      now,
    } as const;
    const { value } = await pool.run<'renewRecord'>(known, [], options);
    if (!value.found) {
      const whole = { kind: 'record', stateDirectory, digest, objects, now } as const;
      await pool.run<'record'>(whole, [], options);
    }
    this.#written.delete(digest);
    this.#written.set(digest, now);
    const [oldest] = this.#written.keys();
    if (this.#written.size > rememberedMax && oldest !== undefined) this.#written.delete(oldest);
  }

  async #prune(): Promise<void> {
    const { pool, stateDirectory, onFault } = this.#options;
    const task = { kind: 'pruneRecords', stateDirectory, now: Date.now() } as const;
    try {
      await pool.run<'pruneRecords'>(task, [], { owner: service.pruning, stallable: false });
    } catch (error) {
      // They take space, and that is all: the next look may do better.
      if (!this.#stopped) onFault(error);
    }
  }
}
