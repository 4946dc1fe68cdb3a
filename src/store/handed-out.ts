import {
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { digestHex, parseDigest } from '../base/digest.ts';
import { OwnedFd } from '../sys/fd.ts';
import { lockFile } from '../sys/file.ts';
import { errorCode, isUnfinished, unfinishedPrefix } from './unfinished-file.ts';

/** How long the objects of an image stay after it was handed out: its mount may be on its way, attached nowhere yet. */
export const handedOutMilliseconds: number = 60 * 60 * 1000;

/**
 * How old a record may be that an image is handed out under; added to the time that its objects stay. It is brought up to
 * date well before, so that few wait for that.
 */
export const recordAgeMilliseconds: number = 2 * 60 * 1000;

/** An image that was handed out: when (milliseconds since 1970), and the objects that it needs, by path in a store. */
export interface HandedOut {
  readonly digest: Digest;
  readonly at: number;
  readonly objects: readonly string[];
}

/** The objects of an image as a record has them: a line for each. */
export function formatObjects(objects: readonly string[]): string {
  return objects.map((object) => `${object}\n`).join('');
}

/**
 * The images that a service handed out, in its state folder: a file for each, named by the digest, a line for each
 * object, as old as the last time. A service that starts again has lost nothing, and `store gc` reads it. Everything here
 * waits for the disk, and for whoever collects garbage: never on the service's event loop.
 */
export class HandedOutImages {
  readonly #directory: string;
  /** When each was last read, by name. */
  readonly #read = new Map<string, number>();

  /** Below the state folder `stateDirectory`; nothing is made before something is recorded. */
  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, 'handed-out');
  }

  /**
   * Brings the record of an image up to the time `now`. False where there is none, or none of an image with objects: a
   * machine that stopped may have left an empty file. Throws the system call's error: then the image must not be handed out.
   */
  renew(digest: Digest, hasObjects: boolean, now: number): boolean {
    using lock = this.#lock('shared');
    const path = join(this.#directory, digestHex(digest));
    const size = lock === undefined ? undefined : statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined || (hasObjects && size === 0)) return false;
    utimesSync(path, now / 1000, now / 1000);
    return true;
  }

  /** Records that the image is handed out at the time `now`; `objects` as formatObjects has them. Throws as renew does. */
  record(digest: Digest, objects: string, now: number): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    using lock = this.#lock('shared');
    if (lock === undefined) throw new Error(`${this.#directory} has just been made, and is not there`);
    // A service that ends may write the same beside the one that begins.
    const unfinished = join(this.#directory, `${unfinishedPrefix}${process.pid}-${digestHex(digest)}`);
    writeFileSync(unfinished, objects, { encoding: 'latin1' });
    utimesSync(unfinished, now / 1000, now / 1000);
    renameSync(unfinished, join(this.#directory, digestHex(digest)));
  }

  /** Everything recorded; nothing where no service ever ran. Throws the system call's error. */
  read(): HandedOut[] {
    const lock = this.#lock('shared');
    try {
      this.#read.clear();
      return this.readNewer();
    } finally {
      lock?.close();
    }
  }

  /** What was recorded, or brought up to date, since it was read last; while it is held. */
  readNewer(): HandedOut[] {
    const found: HandedOut[] = [];
    for (const name of namesIn(this.#directory)) {
      const digest = parseDigest(`sha256:${name}`);
      const path = join(this.#directory, name);
      const at = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
      if (digest === undefined || at === undefined || this.#read.get(name) === at) continue;
      const objects = readFileSync(path, 'latin1').split('\n').slice(0, -1);
      found.push({ digest, at, objects });
      this.#read.set(name, at);
    }
    return found;
  }

  /** Lets nothing be recorded until what this returns is closed; undefined where no service ever ran. */
  hold(): OwnedFd | undefined {
    return this.#lock('exclusive');
  }

  /**
   * Removes what nobody needs at the time `now`: old records of images that are not among those `mounted`, which is only called
   * where there are old ones, and what a killed service left unfinished. Answers how many went. Throws as `mounted` does.
   */
  prune(mounted: () => ReadonlySet<Digest>, now: number): number {
    const isOld = (name: string): boolean => {
      if (parseDigest(`sha256:${name}`) === undefined) return false;
      const at = statSync(join(this.#directory, name), { throwIfNoEntry: false })?.mtimeMs;
      return at !== undefined && !isRecent(at, now);
    };
    const old = namesIn(this.#directory).filter(isOld);
    const needed = new Set(old.length === 0 ? [] : [...mounted()].map(digestHex));
    // What is mounted from here on was recorded before, and is old no more; and nobody is writing.
    const lock = this.hold();
    try {
      const unneeded = old.filter((name) => !needed.has(name) && isOld(name));
      const unfinished = namesIn(this.#directory).filter(isUnfinished);
      for (const name of [...unneeded, ...unfinished]) unlinkSync(join(this.#directory, name));
      return unneeded.length + unfinished.length;
    } finally {
      lock?.close();
    }
  }

  /** Waits: others hold it for as long as a few small files take. Undefined where nothing was ever recorded. */
  #lock(kind: 'shared' | 'exclusive'): OwnedFd | undefined {
    let folder: OwnedFd;
    try {
      folder = new OwnedFd(openSync(this.#directory, constants.O_RDONLY | constants.O_DIRECTORY));
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    using owned = folder;
    lockFile(owned.number, kind, 'wait');
    return owned.moved();
  }
}

/** Whether objects of what was handed out at the time `at` are to stay at the time `now`, mounted or not. */
export function isRecent(at: number, now: number): boolean {
  return now - at < handedOutMilliseconds + recordAgeMilliseconds;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
