import { readFileSync } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { LimitExceeded, RolledBack } from '../api/mount-delegation.ts';
import {
  describeDamage,
  formatVersionsFile,
  parseVersionsFile,
  versionKey,
  VersionsFileInvalid,
  versionsFileName,
  type NewestVersion,
} from '../policy/versions-file.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { lockFile, openFile } from '../sys/file.ts';
import { limits } from './callers/limits.ts';

/** Another process uses the state folder. */
export class StateInUse extends Error {
  override readonly name = 'StateInUse';

  constructor(directory: string) {
    super(`${directory} is in use by another cfs-mountd`);
  }
}

/** The versions file cannot be read; the message says what to do. */
export class VersionsDamaged extends Error {
  override readonly name = 'VersionsDamaged';

  constructor(path: string, cause: VersionsFileInvalid) {
    super(describeDamage(path, cause), { cause });
  }
}

/**
 * The newest versions that were mounted, for rollback protection: in memory, and in a file of the state folder that
 * is as new as anything handed out, whenever the machine stops.
 */
export class Versions {
  readonly #directory: string;
  readonly #lock: OwnedFd;
  readonly #newest = new Map<string, NewestVersion>();
  /** How many names are remembered for each rule. */
  readonly #names = new Map<string, number>();
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** Whether the last write failed, so that memory knows more than the disk. */
  #unsaved = false;

  /**
   * Locks the state folder `directory` and reads the versions in it. Throws StateInUse where another process has locked
   * it, and VersionsDamaged for a damaged file: what it no longer says could let an old image in.
   */
  constructor(directory: string) {
    this.#directory = directory;
    this.#lock = lockFolder(directory);
    try {
      for (const entry of readEntries(`${directory}/${versionsFileName}`)) {
        this.#set(entry);
      }
    } catch (error) {
      this.#lock.close();
      throw error;
    }
  }

  /** Unlocks the folder, once everything recorded is on the disk. */
  async close(): Promise<void> {
    await (this.#next ?? this.#writing);
    this.#lock.close();
  }

  /** The newest version mounted under `rule` that is called `name`, or undefined if there was none. */
  newest(rule: string, name: string): number | undefined {
    return this.#newest.get(versionKey(rule, name))?.version;
  }

  /**
   * Remembers that `version` is about to be handed out; it is on the disk once the promise resolves. Undefined where it
   * is there already. Rejects with RolledBack where a newer one came in between, with LimitExceeded where the rule has
   * too many names already (to forget one would let its old versions in), and with the error of the disk.
   */
  record(rule: string, name: string, version: number): Promise<void> | undefined {
    const key = versionKey(rule, name);
    const newest = this.#newest.get(key)?.version;
    if (newest !== undefined && newest > version)
      return Promise.reject(new RolledBack({ name, version, newest }));
    if (newest === version && !this.#unsaved) return this.#next ?? this.#writing;
    const value = limits.versionsPerRule;
    if (newest === undefined && (this.#names.get(rule) ?? 0) >= value)
      return Promise.reject(new LimitExceeded({ limit: 'versionsPerRule', value }));
    this.#set({ rule, name, version });
    return this.#write();
  }

  #set(entry: NewestVersion): void {
    const key = versionKey(entry.rule, entry.name);
    if (!this.#newest.has(key)) this.#names.set(entry.rule, (this.#names.get(entry.rule) ?? 0) + 1);
    this.#newest.set(key, entry);
  }

  /** Writes what is in memory now. Writers that come while one is under way share the one after it. */
  #write(): Promise<void> {
    if (this.#writing === undefined) return this.#begin();
    const begin = (): Promise<void> => {
      this.#next = undefined;
      return this.#begin();
    };
    this.#next ??= this.#writing.then(begin, begin);
    return this.#next;
  }

  #begin(): Promise<void> {
    const writing = replaceFile(this.#directory, versionsFileName, formatVersionsFile(this.#newest.values()));
    this.#writing = writing;
    const done = (failed: boolean): void => {
      this.#unsaved = failed;
      if (this.#writing === writing) this.#writing = undefined;
    };
    writing.then(
      () => {
        done(false);
      },
      () => {
        done(true);
      },
    );
    return writing;
  }
}

/** Durable and whole at any moment: a temporary file, fsync, rename over the old one, fsync of the folder. */
async function replaceFile(directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${directory}/${name}.new`;
  // A stop in the middle of an earlier write may have left one.
  await unlink(temporary).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, `${directory}/${name}`);
  const folder = await open(directory);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Two daemons that wrote one file in turn would each forget what the other had seen. The lock goes with the process. */
function lockFolder(directory: string): OwnedFd {
  using folder = openFile(directory, { directory: true });
  if (!lockFile(folder.number)) throw new StateInUse(directory);
  return folder.moved();
}

function readEntries(path: string): readonly NewestVersion[] {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
  try {
    return parseVersionsFile(bytes);
  } catch (error) {
    if (error instanceof VersionsFileInvalid) throw new VersionsDamaged(path, error);
    throw error;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
