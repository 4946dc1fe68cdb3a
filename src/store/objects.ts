import { closeSync, constants, existsSync, fstatSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { digestHex, parseDigest } from '../base/digest.ts';
import { isType, statusOf, statusWherePresent } from '../sys/inode-status.ts';
import { verityDigest } from '../verity/verity.ts';
import type { Measured } from './content.ts';
import {
  blockBytesMax,
  cloneContent,
  copyContent,
  measureContent,
  readContent,
  writeContent,
} from './content.ts';
import { makeDirectory } from './make-directory.ts';
import { synchronizeDirectory, UnfinishedFile } from './unfinished-file.ts';

/** What mkcomposefs gives its objects: everybody may read them, for overlayfs hides nothing that a mount shows. */
const objectMode = 0o644;

/** An object that is in the store now; `isNew` unless it was before. */
export interface StoredObject extends Measured {
  readonly isNew: boolean;
}

/** A store, or what is in it, is not as it should be; the message begins with the path. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`);
    this.path = path;
    this.reason = reason;
  }
}

/** Where below a store the object with this digest is: `ab/cdef…`, the digest's digits with a slash after two. */
export function objectPath(digest: Digest): string {
  const hex = digestHex(digest);
  return `${hex.slice(0, 2)}/${hex.slice(2)}`;
}

/** The digest of the object at a path relative to its store, or undefined where that is no object's path. */
export function objectDigest(relativePath: string): Digest | undefined {
  const match = /^([0-9a-f]{2})\/([0-9a-f]{62})$/.exec(relativePath);
  return match === null ? undefined : parseDigest(`sha256:${match[1] ?? ''}${match[2] ?? ''}`);
}

/**
 * A directory of files named by their fs-verity digests, as composefs wants it for a `basedir`. An object appears
 * under its name whole or not at all, also when the machine stops, and several writers may add at once.
 */
export class ObjectStore {
  readonly path: string;
  readonly #touched = new Set<string>();
  /** Filesystems (major:minor) whose files could not be cloned into the store. */
  readonly #uncloneable = new Set<string>();

  private constructor(path: string) {
    this.path = path;
  }

  /** The store in the directory `path`. Throws StoreError where there is no directory. */
  static open(path: string): ObjectStore {
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) throw new StoreError(path, 'there is no such store');
    if (!status.isDirectory()) throw new StoreError(path, 'a store is a directory');
    return new ObjectStore(path);
  }

  /** The store in the directory `path`, which is made, with those above it, where it is missing. */
  static create(path: string): ObjectStore {
    makeDirectory(path);
    return ObjectStore.open(path);
  }

  /**
   * Adds the contents of an open regular file, read from its start, and makes the object immutable by fs-verity where
   * the filesystem has it. With `expected`, throws StoreError and adds nothing where the contents have another digest.
   * `sync` has to be awaited before anything relies on the new names outliving a crash.
   */
  async add(source: number, expected?: Digest): Promise<StoredObject> {
    const { size, devMajor, devMinor } = statusOf(source);
    // What fits in memory is hashed before anything is written: most of it is in the store already, as a rule.
    const read = size <= blockBytesMax ? readContent(source, size) : undefined;
    const known = read === undefined ? undefined : { digest: verityDigest(read), bytes: size };
    if (known !== undefined && this.#finds(known, expected)) return { ...known, isNew: false };
    const whole = read === undefined ? undefined : Buffer.from(read);
    using file = await UnfinishedFile.create(this.path);
    const measured = (await this.#clone(source, file.fd, `${devMajor}:${devMinor}`))
      ? // Measured is the clone, which nobody else can write, and not the source.
        await measureContent(file.fd, size)
      : await fill(source, file.fd, size, whole, known);
    if (this.#finds(measured, expected)) return { ...measured, isNew: false };
    await file.finish(objectMode, true);
    const path = join(this.path, objectPath(measured.digest));
    this.#makeFolder(dirname(path));
    const isNew = file.publish(path) === 'new' || !this.#finds(measured, expected);
    return { ...measured, isNew };
  }

  /** Adds the contents of the file at `path`; otherwise like `add`. Follows symbolic links. */
  async addFile(path: string): Promise<StoredObject> {
    const source = openRegular(path);
    try {
      return await this.add(source);
    } finally {
      closeSync(source);
    }
  }

  /** Whether there is an object at this path relative to the store (`ab/cdef…`). Its contents are not looked at. */
  has(relativePath: string): boolean {
    return existsSync(join(this.path, relativePath));
  }

  /** Those of the relative paths at which there is no object, in the order given. */
  missing(relativePaths: Iterable<string>): string[] {
    return [...relativePaths].filter((path) => !this.has(path));
  }

  /** Brings the names of all objects added to the disk. */
  async sync(): Promise<void> {
    const folders = [...this.#touched];
    this.#touched.clear();
    await Promise.all([this.path, ...folders].map((folder) => synchronizeDirectory(folder)));
  }

  async #clone(source: number, target: number, device: string): Promise<boolean> {
    if (this.#uncloneable.has(device)) return false;
    if (await cloneContent(source, target)) return true;
    this.#uncloneable.add(device);
    return false;
  }

  #makeFolder(path: string): void {
    if (this.#touched.has(path)) return;
    makeDirectory(path);
    this.#touched.add(path);
  }

  /**
   * Whether the object is there already. Throws StoreError where its digest is not the expected one, and where an
   * object of that name has another size: somebody damaged it.
   */
  #finds(measured: Measured, expected: Digest | undefined): boolean {
    const relative = objectPath(measured.digest);
    if (expected !== undefined && measured.digest !== expected)
      throw new StoreError(objectPath(expected), `the contents have the digest ${measured.digest}`);
    const path = `${this.path}/${relative}`;
    const status = statusWherePresent(path);
    if (status === undefined) return false;
    if (isType(status, constants.S_IFREG) && status.size === measured.bytes) return true;
    throw new StoreError(path, 'the object in the store is damaged; see "cfs-mountctl store check"');
  }
}

/** Writes what was read already, and else copies and measures on the way. */
async function fill(
  source: number,
  target: number,
  size: number,
  whole: Uint8Array | undefined,
  known: Measured | undefined,
): Promise<Measured> {
  if (whole === undefined || known === undefined) return copyContent(source, target, size);
  await writeContent(target, whole, 0);
  return known;
}

/** Opens a file for reading. Throws StoreError unless it is a regular file; the caller closes the descriptor. */
export function openRegular(path: string): number {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new StoreError(path, 'not a regular file');
}
