import { mkdirSync, symlinkSync, unlinkSync } from 'node:fs';

import { check, lastErrnoName } from './errno.ts';
import { closeFd, type OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { openFile } from './file.ts';
import { makeNamespaces } from './idle-child.ts';
import {
  cloneTree,
  fsconfigCreate,
  fsconfigString,
  fsmount,
  fsopen,
  moveMount,
  umountDetach,
} from './mount-calls.ts';

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x2_0000;
const MS_REC = 0x4000;
const MS_SLAVE = 0x8_0000;
const MS_SHARED = 0x10_0000;

// Any folder would do that exists everywhere and in which nobody looks for anything: in the namespaces of a stage, it
// is covered by the stage's own tmpfs.
const stagePath = '/proc/fs';

/**
 * In which mount namespace a thread is between calls: the one in which it began; the stage's own, which follows it as
 * a slave; or the less privileged one, which follows that, and in which clones of locked mounts are made without a hop.
 */
export type StageHome = 'host' | 'stage' | 'locked';

/** What a stage has no use for any more, in plain data, so that another thread can take it away. */
export interface Leavings {
  /** The mount namespace in which `paths` are, borrowed from the stage. */
  readonly namespace: number;
  /** Where mounts are attached. */
  readonly paths: readonly string[];
  /** Descriptors of mounts, to be closed. */
  readonly mounts: readonly number[];
}

/** A mount that is attached on the stage, at `path` in the stage's namespaces alone. */
export interface Attached {
  readonly path: string;
  /** Detaches it again, at the next sweep. */
  detach(): void;
}

/**
 * A place where mounts get locked: attributes of a mount bind its receiver only once it has passed into the mount
 * namespace of another user namespace (mount_namespaces(7), "Restrictions on mount namespaces").
 *
 * A stage has two mount namespaces. The outer follows the thread's first one as a slave and has a tmpfs of its own, which
 * is shared. The inner belongs to another user namespace and is a slave of the outer: what is attached on the tmpfs
 * shows up in it, with its attributes locked, and is cloned there. No process lives in either: both go with the stage's
 * descriptors.
 *
 * A stage belongs to the thread that opened it: setns(2) moves that thread alone. Its root must be the root of
 * its mount namespace, as it is unless the process was started by chroot(8).
 */
export class Stage implements Disposable {
  readonly #namespaces: Readonly<Record<StageHome, OwnedFd>>;
  readonly #workingDirectory: OwnedFd;
  #home: StageHome;
  #current: StageHome | 'elsewhere' = 'stage';
  #made = 0;
  readonly #free: string[] = [];
  #leaving: string[] = [];
  #discarded: OwnedFd[] = [];

  private constructor(namespaces: Record<StageHome, OwnedFd>, workingDirectory: OwnedFd, home: StageHome) {
    this.#namespaces = namespaces;
    this.#workingDirectory = workingDirectory;
    this.#home = home;
  }

  /**
   * Makes a stage for this thread, which afterwards has its own working directory and root, and stays in the
   * namespace `home`. Needs CAP_SYS_ADMIN, and /proc. Throws SyscallError.
   */
  static open(home: StageHome = 'host'): Stage {
    using host = ownMountNamespace();
    using workingDirectory = openFile('.', { pathOnly: true });
    check('unshare', ffi.unshare(CLONE_NEWNS), 'a mount namespace');
    try {
      makeStageTmpfs();
      using stage = ownMountNamespace();
      const { user, mount: locked } = makeNamespaces();
      user.close();
      const namespaces = { host: host.moved(), stage: stage.moved(), locked };
      const made = new Stage(namespaces, workingDirectory.moved(), home);
      made.#enter(home);
      return made;
    } catch (error) {
      if (host.isOpen) {
        ffi.setns(host.number, CLONE_NEWNS);
        ffi.fchdir(workingDirectory.number);
      }
      throw error;
    }
  }

  /**
   * A detached clone of the detached mount `mount` whose attributes its receiver cannot clear. `mount` itself becomes
   * attached on the stage until the next sweep; its descriptor stays the caller's. Throws SyscallError.
   */
  lock(mount: OwnedFd): OwnedFd {
    try {
      const path = this.#place(mount);
      this.#leaving.push(path);
      this.#enter('locked');
      return cloneTree(path);
    } finally {
      this.#enter(this.#home);
    }
  }

  /** A clone of the locked mount `mount`, which this stage has made: as locked, and detached. Throws SyscallError. */
  clone(mount: number): OwnedFd {
    this.#enter('locked');
    try {
      return cloneTree(mount);
    } finally {
      this.#enter(this.#home);
    }
  }

  /**
   * A detached clone of what `mount` refers to in the mount namespace of another process, `namespace` being that
   * namespace or a pidfd of the process. That is the only place where a mount of that namespace can be cloned; no path
   * is looked up there. Throws SyscallError: EINVAL where `mount` is of yet another namespace.
   */
  cloneFrom(namespace: number, mount: number): OwnedFd {
    joinMountNamespace(namespace, 'the mount namespace of a peer');
    this.#current = 'elsewhere';
    try {
      return cloneTree(mount);
    } finally {
      this.#enter(this.#home);
    }
  }

  /** Takes over a mount that is no longer wanted, to be closed at the next sweep. */
  discard(mount: OwnedFd): void {
    this.#discarded.push(mount);
  }

  /**
   * Detaches and closes what lock() left attached and what is no longer wanted. To be called when there is time:
   * each unmounting waits for the kernel's readers (synchronize_rcu_expedited), which takes longer than a mount does.
   */
  sweep(): void {
    const leavings = this.takeLeavings();
    if (leavings === undefined) return;
    this.sweepFor(leavings);
    this.swept(leavings);
  }

  /** How much there is to sweep: mounts and descriptors of mounts. */
  get leavings(): number {
    return this.#leaving.length + this.#discarded.length;
  }

  /** What the next sweep would take away, for another thread's stage to do it; undefined where there is nothing. */
  takeLeavings(): Leavings | undefined {
    if (this.leavings === 0) return undefined;
    const paths = this.#leaving;
    const mounts = this.#discarded.map((mount) => mount.take());
    this.#leaving = [];
    this.#discarded = [];
    return { namespace: this.#namespaces.stage.number, paths, mounts };
  }

  /** Takes away what a stage has left, whichever thread's it is. Throws SyscallError. */
  sweepFor({ namespace, paths, mounts }: Leavings): void {
    joinMountNamespace(namespace, 'the namespace of a stage');
    this.#current = 'elsewhere';
    try {
      // First, since a mount that was handed out cannot be unmounted by its receiver while it is open here (EBUSY).
      mounts.forEach(closeFd);
      paths.forEach(umountDetach);
    } finally {
      this.#enter(this.#home);
    }
  }

  /** What takeLeavings() gave is gone: its places are free. */
  swept(leavings: Leavings): void {
    this.#free.push(...leavings.paths);
  }

  /**
   * Runs `work` with the thread in the stage's outer namespace, where paths of attached mounts are found.
   * `work` is not to wait for anything.
   */
  inside<Result>(work: () => Result): Result {
    const home = this.#home;
    this.#home = 'stage';
    try {
      this.#enter('stage');
      return work();
    } finally {
      this.#home = home;
      this.#enter(home);
    }
  }

  /**
   * Runs `work` with the thread in the stage's outer namespace and in a working directory in which `name` is a symbolic
   * link to `target`. The kernel shows of a mount what it was given to open; this gives it a better name than a path.
   */
  named<Result>(name: string, target: string, work: () => Result): Result {
    return this.inside(() => {
      const link = `${stagePath}/${name}`;
      symlinkSync(target, link);
      try {
        using folder = openFile(stagePath, { pathOnly: true, directory: true });
        check('fchdir', ffi.fchdir(folder.number));
        return work();
      } finally {
        unlinkSync(link);
        ffi.fchdir(this.#workingDirectory.number);
      }
    });
  }

  /**
   * Attaches the detached mount `mount` on the stage; its descriptor stays the caller's.
   *
   * COMPAT(6.15): for kernels whose overlayfs takes no detached layers.
   */
  attach(mount: OwnedFd): Attached {
    try {
      const path = this.#place(mount);
      let attached = true;
      const detach = (): void => {
        if (attached) this.#leaving.push(path);
        attached = false;
      };
      return { path, detach };
    } finally {
      this.#enter(this.#home);
    }
  }

  /** Brings the thread back to where it began, and gives up the stage. Mounts that it has locked live on. */
  close(): void {
    if (!this.#namespaces.host.isOpen) return;
    this.sweep();
    this.#enter('host');
    for (const fd of Object.values(this.#namespaces)) fd.close();
    this.#workingDirectory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  // Attaches `mount` in a folder of its own, and leaves the thread in the outer namespace.
  #place(mount: OwnedFd): string {
    this.#enter('stage');
    const path = this.#free.pop() ?? this.#makeFolder();
    try {
      moveMount(mount.number, path);
    } catch (error) {
      this.#free.push(path);
      throw error;
    }
    return path;
  }

  #makeFolder(): string {
    const path = `${stagePath}/${this.#made}`;
    mkdirSync(path);
    this.#made += 1;
    return path;
  }

  #enter(namespace: StageHome): void {
    if (this.#current === namespace) return;
    joinMountNamespace(this.#namespaces[namespace].number, `the mount namespace "${namespace}"`);
    this.#current = namespace;
    // setns(2) left the working directory at the namespace's root.
    if (namespace === 'host') check('fchdir', ffi.fchdir(this.#workingDirectory.number));
  }
}

// A thread that shares its root and working directory with another may not change its mount namespace (EINVAL), and each
// thread that this one has started since shares them.
function joinMountNamespace(namespace: number, about: string): void {
  if (ffi.setns(namespace, CLONE_NEWNS) === 0) return;
  if (lastErrnoName() === 'EINVAL') check('unshare', ffi.unshare(CLONE_FS), 'the root and working directory');
  check('setns', ffi.setns(namespace, CLONE_NEWNS), about);
}

// Not /proc/self, which is the process's first thread.
function ownMountNamespace(): OwnedFd {
  return openFile('/proc/thread-self/ns/mnt');
}

function makeStageTmpfs(): void {
  // Mounts of the host that come later are still seen, and nothing goes back there.
  check('mount', ffi.mount('none', '/', null, MS_SLAVE | MS_REC, null), 'slave');
  using context = fsopen('tmpfs');
  for (const [key, value] of [
    ['source', 'cfs-mountd'],
    ['mode', '0700'],
    ['size', '1m'],
  ] as const) {
    fsconfigString(context.number, key, value);
  }
  fsconfigCreate(context.number);
  using tmpfs = fsmount(context.number, 0);
  moveMount(tmpfs.number, stagePath);
  check('mount', ffi.mount('none', stagePath, null, MS_SHARED, null), 'shared');
}
