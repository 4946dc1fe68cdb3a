import { statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Digest } from '../base/digest.ts';
import { imageNames } from './image-folders.ts';

/** What is learnt of the image called `name` below `directories`: a digest, or undefined where it cannot be had. */
export type Learn = (
  name: string,
  directories: readonly string[],
) => Digest | undefined | Promise<Digest | undefined>;

/** How long an index counts while no folder changes: a file may also be written in place. */
const freshMilliseconds = 1000;
/** More than the coarsest tick of the clock by which filesystems note changes. */
const tickMilliseconds = 100;
/** Others have their turn after so many images. */
const imagesPerTurn = 8;

interface Index {
  readonly names: ReadonlyMap<Digest, readonly string[]>;
  readonly folders: readonly FolderState[];
  /** By the clock that files' times are of. */
  readonly builtAt: number;
  /** As performance.now(): the clock may be set back. */
  readonly freshSince: number;
}

/**
 * The images below some directories by their digest. Whoever asks for digests that are nowhere makes the daemon look at
 * every image: all who ask at once share one look, and another follows only when a folder has changed or some time
 * has passed.
 */
export class DigestIndex {
  readonly #learn: Learn;
  readonly #built = new Map<string, Index>();
  readonly #building = new Map<string, Promise<Index>>();

  constructor(learn: Learn) {
    this.#learn = learn;
  }

  /** The names of images with `digest` below `directories`. */
  async names(digest: Digest, directories: readonly string[]): Promise<readonly string[]> {
    const key = directories.join('\n');
    const built = this.#built.get(key);
    const index = built !== undefined && isFresh(built) ? built : await this.#shared(key, directories);
    return index.names.get(digest) ?? [];
  }

  #shared(key: string, directories: readonly string[]): Promise<Index> {
    const running = this.#building.get(key);
    if (running !== undefined) return running;
    const building = this.#build(directories).finally(() => {
      this.#building.delete(key);
    });
    this.#building.set(key, building);
    return building.then((index) => {
      // One for each policy of late; an older one is not asked for again.
      this.#built.clear();
      this.#built.set(key, index);
      return index;
    });
  }

  async #build(directories: readonly string[]): Promise<Index> {
    const found = directories.map(imageNames);
    const folders = [...new Set(found.flatMap((walk) => walk.folders))];
    const index = { folders: folders.map(stateOf), builtAt: Date.now(), freshSince: performance.now() };
    const names = new Map<Digest, string[]>();
    for (const [position, name] of [...new Set(found.flatMap((walk) => walk.names))].entries()) {
      if (position % imagesPerTurn === imagesPerTurn - 1) await setImmediate();
      const digest = await this.#learn(name, directories);
      if (digest !== undefined) names.set(digest, [...(names.get(digest) ?? []), name]);
    }
    return { ...index, names };
  }
}

/** A folder that was walked; another time of change means other files. */
interface FolderState {
  readonly path: string;
  readonly inode: number;
  readonly changedAt: number;
}

function stateOf(path: string): FolderState {
  const found = statSync(path, { throwIfNoEntry: false });
  return { path, inode: found?.ino ?? 0, changedAt: found?.ctimeMs ?? 0 };
}

function isFresh(index: Index): boolean {
  if (performance.now() - index.freshSince > freshMilliseconds) return false;
  return index.folders.every(({ path, inode, changedAt }) => {
    const now = stateOf(path);
    // A folder that changed just before it was read could have changed after that within the same tick of its clock.
    const settled = changedAt < index.builtAt - tickMilliseconds;
    return settled && now.inode === inode && now.changedAt === changedAt;
  });
}
