import { StoreNotFound } from '../../api/mount-delegation.ts';
import type { PolicyStore } from '../../policy/policy.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fstat, openFile } from '../../sys/file.ts';
import { cloneTree } from '../../sys/mount-calls.ts';
import type { Stage } from '../../sys/stage.ts';
import { NotTrusted } from '../images/image-folders.ts';
import { rootOwnedFault } from '../threads/root-owned.ts';

/** A policy's store, ready to be a layer. */
export interface OpenPolicyStore {
  /** A detached clone, or the directory opened on the stage. Borrowed: valid until the event loop's next turn. */
  readonly fd: number;
  /** Only root can write it. */
  readonly trusted: boolean;
  /** Which directory it is: another one under the same name has another identity. */
  readonly identity: string;
  readonly path: string;
}

interface Kept {
  readonly fd: OwnedFd;
  readonly identity: string;
}

/**
 * How long a store stays open. A clone spares every mount the calls for a new one, and as long as it is kept, a
 * filesystem that the administrator mounts in the store's place is not seen, nor can the old one be unmounted.
 */
const keptMilliseconds = 3000;

/** The policy's stores, opened as the kernel's overlayfs takes them. */
export class StoreClones {
  readonly #stage: Stage;
  readonly #detached: boolean;
  readonly #kept = new Map<string, Kept>();

  /** `detached`: overlayfs takes detached mounts for layers; else paths of the stage's own namespace are needed. */
  constructor(stage: Stage, detached: boolean) {
    this.#stage = stage;
    this.#detached = detached;
  }

  /** Throws StoreNotFound, NotTrusted for a trusted store that others than root could write, SyscallError. */
  open(store: PolicyStore): OpenPolicyStore {
    const trusted = store.verity === 'trusted';
    const key = `${store.verity} ${store.path}`;
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      kept = this.#open(store, trusted);
      this.#keep(key, kept);
    }
    return { fd: kept.fd.number, trusted, identity: kept.identity, path: store.path };
  }

  /** Closes them all. */
  close(): void {
    for (const { fd } of this.#kept.values()) fd.close();
    this.#kept.clear();
  }

  #open(store: PolicyStore, trusted: boolean): Kept {
    try {
      const fault = trusted ? rootOwnedFault(store.path) : undefined;
      if (fault !== undefined) throw new NotTrusted(`the store ${store.name}: ${fault}`);
      // In the less privileged namespace a directory with another mount below it could not be cloned (EINVAL).
      using fd = this.#stage.inside(() =>
        this.#detached ? cloneTree(store.path) : openFile(store.path, { directory: true }),
      );
      const found = fstat(fd.number);
      if (!found.isDirectory()) throw new StoreNotFound({ name: store.name });
      return { fd: fd.moved(), identity: `${found.dev}:${found.ino}` };
    } catch (error) {
      if (isMissing(error)) throw new StoreNotFound({ name: store.name });
      throw error;
    }
  }

  #keep(key: string, kept: Kept): void {
    this.#kept.set(key, kept);
    setTimeout(() => {
      if (this.#kept.get(key) === kept) this.#kept.delete(key);
      kept.fd.close();
    }, keptMilliseconds).unref();
  }
}

function isMissing(error: unknown): boolean {
  if (isSyscallError(error, 'ENOENT', 'ENOTDIR')) return true;
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}
