import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { digestHex, parseDigest } from '../base/digest.ts';
import { errorCode, unfinishedPrefix } from './unfinished-file.ts';

/** How long the objects of an image stay after it was handed out: its mount may be on its way, attached nowhere yet. */
const handedOutMilliseconds = 60 * 60 * 1000;

/** How often the same image's time is brought up to date; added to the time that its objects stay. */
const touchMilliseconds = 60 * 1000;
/** So that what is remembered of them does not grow for ever. */
const rememberedMax = 4096;

/** An image that was handed out: when (milliseconds since 1970), and the objects that it needs, by path in a store. */
export interface HandedOut {
  readonly digest: Digest;
  readonly at: number;
  readonly objects: readonly string[];
}

/**
 * The images that a service handed out, in its state folder: a file for each, named by the digest, a line for each
 * object, as old as the last time. A service that starts again has lost nothing, and `store gc` reads it.
 */
export class HandedOutImages {
  readonly #directory: string;
  /** When each was last written, by digest. */
  readonly #written = new Map<Digest, number>();

  /** Below the state folder `stateDirectory`; nothing is made before something is recorded. */
  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, 'handed-out');
  }

  /** Records that the image is handed out at the time `now`. Throws the system call's error: then it must not be. */
  record(digest: Digest, objects: readonly string[], now: number): void {
    const written = this.#written.get(digest);
    if (written !== undefined && now - written < touchMilliseconds) return;
    if (this.#written.size >= rememberedMax) this.#written.clear();
    const path = join(this.#directory, digestHex(digest));
    if (!touched(path, now)) {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const unfinished = join(this.#directory, unfinishedPrefix + digestHex(digest));
      writeFileSync(unfinished, objects.map((object) => `${object}\n`).join(''), { encoding: 'latin1' });
      renameSync(unfinished, path);
      touched(path, now);
    }
    this.#written.set(digest, now);
  }

  /** Everything recorded; nothing where no service ever ran. Throws the system call's error. */
  read(): HandedOut[] {
    const found: HandedOut[] = [];
    for (const name of namesIn(this.#directory)) {
      const digest = parseDigest(`sha256:${name}`);
      if (digest === undefined) continue;
      const path = join(this.#directory, name);
      const objects = readFileSync(path, 'latin1').split('\n').slice(0, -1);
      found.push({ digest, at: statSync(path).mtimeMs, objects });
    }
    return found;
  }
}

/** Whether objects of what was handed out at the time `at` are to stay at the time `now`, mounted or not. */
export function isRecent(at: number, now: number): boolean {
  return now - at < handedOutMilliseconds + touchMilliseconds;
}

/** Sets the time of the file at `path`; false where there is none. */
function touched(path: string, now: number): boolean {
  try {
    utimesSync(path, now / 1000, now / 1000);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
