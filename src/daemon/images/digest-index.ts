import { statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Digest } from '../../base/digest.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { FolderWatches } from '../../sys/folder-watches.ts';
import { imageNames } from './image-folders.ts';

/** What is learnt of the image called `name` below `directories`: a digest, or undefined where it cannot be had. */
export type Learn = (
  name: string,
  directories: readonly string[],
) => Digest | undefined | Promise<Digest | undefined>;

type Names = ReadonlyMap<Digest, readonly string[]>;

/** After a change others follow: whoever installs an image writes several files. */
const calmMilliseconds = 500;
/** How long an index counts where the kernel has no watches for all of its folders. */
const unwatchedMilliseconds = 1000;
/** Others have their turn after so many images. */
const imagesPerTurn = 8;

/**
 * The images below some directories by their digest. It is made when it is told to, and again once something has changed there: a
 * request for a digest that is nowhere makes nobody look. Only what changed a moment ago is waited for. Not seen are
 * filesystems that are mounted below the directories meanwhile.
 */
export class DigestIndex {
  readonly #learn: Learn;
  #latest: Index | undefined;
  #calm: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(learn: Learn) {
    this.#learn = (name, directories) => (this.#closed ? undefined : learn(name, directories));
  }

  /** Makes it anew. Rejects with the system call's error where a folder cannot be read. */
  async begin(directories: readonly string[]): Promise<void> {
    await this.#begin(directories).names;
  }

  /** The names of images with `digest` below `directories`. Rejects as `begin`. */
  async names(digest: Digest, directories: readonly string[]): Promise<readonly string[]> {
    const { names } = this.#current(directories);
    return (await names).get(digest) ?? [];
  }

  /** Learns of nothing any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#calm);
    this.#latest?.close();
  }

  #current(directories: readonly string[]): Index {
    const latest = this.#latest;
    return latest?.isAbout(directories) === true && latest.isCurrent() ? latest : this.#begin(directories);
  }

  /** One at a time: it begins once the one before has ended, and sees all that changed until then. */
  #begin(directories: readonly string[]): Index {
    const before = this.#latest;
    before?.close();
    const ended = before?.names.catch(() => undefined) ?? Promise.resolve();
    const index = new Index(directories, this.#learn, ended, () => {
      if (this.#latest === index) this.#renewSoon(index);
    });
    this.#latest = index;
    return index;
  }

  #renewSoon(index: Index): void {
    clearTimeout(this.#calm);
    this.#calm = setTimeout(() => {
      // What is wrong is for the request to find that comes next.
      if (this.#latest === index) this.#begin(index.directories).names.catch(() => undefined);
    }, calmMilliseconds).unref();
  }
}

/** What was found at one time, or is being looked for. */
class Index {
  readonly directories: readonly string[];
  readonly names: Promise<Names>;
  readonly #changed: () => void;
  #watches: FolderWatches | undefined;
  #state: 'as found' | 'changed' | 'closed' = 'as found';
  /** The directories themselves, which may also be replaced from above, or come to be; undefined before it has begun. */
  #tops: string | undefined;
  /** As performance.now(), which no clock sets back. */
  #unwatchedSince: number | undefined;

  constructor(directories: readonly string[], learn: Learn, after: Promise<unknown>, changed: () => void) {
    this.directories = directories;
    this.#changed = changed;
    this.names = after.then(() => this.#build(learn));
    // Whoever asks next has it made again.
    this.names.catch(() => {
      this.#state = 'changed';
    });
  }

  isAbout(directories: readonly string[]): boolean {
    return directories.join('\n') === this.directories.join('\n');
  }

  /** Whether nothing has changed since it was begun, as far as the kernel tells. */
  isCurrent(): boolean {
    this.#watches?.drain();
    if (this.#state !== 'as found') return false;
    if (this.#tops !== undefined && this.#tops !== topsOf(this.directories)) return false;
    return performance.now() - (this.#unwatchedSince ?? Infinity) < unwatchedMilliseconds;
  }

  /** Sees no changes any more. */
  close(): void {
    this.#state = 'closed';
    this.#watches?.close();
  }

  async #build(learn: Learn): Promise<Names> {
    this.#watches = this.#state === 'closed' ? undefined : this.#watch();
    this.#tops = topsOf(this.directories);
    const found = new Set<string>();
    for (const directory of this.directories) {
      const names = await imageNames(directory, (folder) => {
        this.#reads(folder);
      });
      for (const name of names) found.add(name);
    }
    const names = new Map<Digest, string[]>();
    for (const [position, name] of [...found].entries()) {
      if (position % imagesPerTurn === imagesPerTurn - 1) await setImmediate();
      const digest = await learn(name, this.directories);
      if (digest !== undefined) names.set(digest, [...(names.get(digest) ?? []), name]);
    }
    return names;
  }

  #watch(): FolderWatches | undefined {
    try {
      return new FolderWatches(() => {
        this.#state = 'changed';
        this.#changed();
      });
    } catch (error) {
      if (!isSyscallError(error, 'EMFILE')) throw error;
      return undefined;
    }
  }

  /** A folder is about to be read. What is closed has no watches any more. */
  #reads(folder: string): void {
    if (this.#state === 'closed') return;
    if (this.#watches?.add(folder) !== true) this.#unwatchedSince ??= performance.now();
  }
}

function topsOf(directories: readonly string[]): string {
  const found = directories.map((path) => statSync(path, { throwIfNoEntry: false }));
  return found.map((each) => (each === undefined ? 'none' : `${each.dev}:${each.ino}`)).join('\n');
}
