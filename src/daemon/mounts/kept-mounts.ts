import { statSync } from 'node:fs';
import { attributeBits, attributeChange } from '../../mount/attributes.ts';
import type { Attribute } from '../../policy/policy.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { cloneTree, mountSetattr } from '../../sys/mount-calls.ts';
import type { Stage } from '../../sys/stage.ts';
import type { LiveMount } from '../callers/handouts.ts';
import { limits } from '../callers/limits.ts';

/** A file or folder on whose filesystem a kept mount stands. */
export interface Pin {
  readonly path: string;
  /** Device and inode that are to be found there; where others are, the filesystem was unmounted or the file replaced. */
  readonly identity: string;
}

/** What a kept mount shows, and to whom it may be shown. */
export interface KeptKind {
  /** Everything that its superblock depends on: requests with the same key may share it. */
  readonly key: string;
  readonly digest: string;
  /** Whose mounts share it; undefined: everyone's. */
  readonly user: number | undefined;
  readonly pins: readonly Pin[];
}

/** A kept mount as an administrator sees it. */
export interface KeptMount {
  readonly digest: string;
  /** Whose mounts share it; left out: everyone's. */
  readonly user?: number;
  /** It is the EROFS layer below overlays. */
  readonly layer: boolean;
  /** How long ago it was asked for last. */
  readonly unusedMilliseconds: number;
}

interface Entry {
  readonly kind: KeptKind;
  /** Detached, read-only and without a lock: what is cloned for each set of attributes, or laid below overlays. */
  readonly base: OwnedFd;
  /** By MOUNT_ATTR_* bits: the mount with these attributes, locked, whose clones are handed out. */
  readonly locked: Map<number, OwnedFd>;
  /** The superblock as the limits count it; undefined for a layer, which counts with the overlays over it. */
  readonly live: LiveMount | undefined;
  usedAt: number;
}

/** What keeping mounts needs. */
export interface KeptMountsOptions {
  /** The stage of this thread. */
  readonly stage: Stage;
  /** Takes over mounts that are no longer wanted. */
  readonly discard: (mount: OwnedFd) => void;
  /** Whether the machine is short of memory. */
  readonly memoryIsShort: () => boolean;
}

const checkMilliseconds = 1000;

/**
 * The mounts of images that were verified and mounted before, so that one superblock of an image serves many mounts:
 * who may have an image is decided for every request, and what it gets then is a clone. Each stays while it is asked
 * for, up to the limits on how many and how long, while memory is not short, and while what it stands on is where it was.
 */
export class KeptMounts {
  readonly #options: KeptMountsOptions;
  /** By key, the one used longest ago first. */
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeptMountsOptions) {
    this.#options = options;
  }

  /** A clone, with exactly `attributes`, locked, of the kept mount of that key, and the superblock it is of. Throws SyscallError. */
  clone(
    key: string,
    attributes: readonly Attribute[],
  ): { readonly mount: OwnedFd; readonly live: LiveMount | undefined } | undefined {
    const entry = this.#use(key);
    if (entry === undefined) return undefined;
    const bits = attributeBits(attributes);
    const locked = entry.locked.get(bits) ?? this.#lock(entry, bits);
    return { mount: this.#options.stage.clone(locked.number), live: entry.live };
  }

  /** Whether there is a kept mount of the image that `user` may share. */
  holds(digest: string, user: number): boolean {
    return [...this.#entries.values()].some(
      ({ kind, live }) =>
        live !== undefined && kind.digest === digest && (kind.user === undefined || kind.user === user),
    );
  }

  /** The unlocked mount of that key itself, borrowed until the event loop's next turn. */
  layer(key: string): number | undefined {
    return this.#use(key)?.base.number;
  }

  /** Takes over `base`, a detached mount with no attribute but ro, such that clones of it can be had. */
  keep(kind: KeptKind, base: OwnedFd, live: LiveMount | undefined): void {
    this.drop((other) => other.key === kind.key);
    const usedAt = performance.now();
    this.#entries.set(kind.key, { kind, base, locked: new Map(), live, usedAt });
    this.#evict(kind.user);
    this.#timer ??= setInterval(() => {
      this.#check();
    }, checkMilliseconds).unref();
  }

  /** What is kept, the one used longest ago first. */
  list(): readonly KeptMount[] {
    const now = performance.now();
    return [...this.#entries.values()].map(({ kind, live, usedAt }) => {
      const unusedMilliseconds = Math.round(now - usedAt);
      const { digest, user } = kind;
      return { digest, ...(user !== undefined && { user }), layer: live === undefined, unusedMilliseconds };
    });
  }

  /** Keeps no longer what `matches` says, and answers how many that were. Clones that were handed out live on. */
  drop(matches: (kind: KeptKind, live: LiveMount | undefined) => boolean): number {
    let dropped = 0;
    for (const [key, { kind, base, locked, live }] of this.#entries) {
      if (!matches(kind, live)) continue;
      this.#entries.delete(key);
      for (const mount of [...locked.values(), base]) this.#options.discard(mount);
      dropped += 1;
    }
    if (this.#entries.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    return dropped;
  }

  #use(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.usedAt = performance.now();
    return entry;
  }

  #lock(entry: Entry, bits: number): OwnedFd {
    using mount = cloneTree(entry.base.number);
    mountSetattr(mount.number, attributeChange(bits));
    const locked = this.#options.stage.lock(mount);
    entry.locked.set(bits, locked);
    return locked;
  }

  /** Beyond a limit the user's own go first, then anybody's, those used longest ago. */
  #evict(user: number | undefined): void {
    const own = [...this.#entries.values()].filter(({ kind }) => kind.user === user);
    const excess = own.length - limits.mountsKeptPerUser;
    const gone = new Set<string>();
    if (user !== undefined) for (const { kind } of own.slice(0, Math.max(excess, 0))) gone.add(kind.key);
    for (const key of this.#entries.keys()) {
      if (this.#entries.size - gone.size <= limits.mountsKept) break;
      gone.add(key);
    }
    if (gone.size > 0) this.drop(({ key }) => gone.has(key));
  }

  #check(): void {
    if (this.#options.memoryIsShort()) {
      this.drop(() => true);
      return;
    }
    const oldest = performance.now() - limits.keptMilliseconds;
    const found = new Map<string, string | undefined>();
    const moved = ({ path, identity }: Pin): boolean => {
      if (!found.has(path)) found.set(path, identityAt(path));
      return found.get(path) !== identity;
    };
    const unused = new Set<string>();
    for (const [key, { usedAt }] of this.#entries) if (usedAt < oldest) unused.add(key);
    this.drop(({ key, pins }) => unused.has(key) || pins.some(moved));
  }
}

function identityAt(path: string): string | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}
