import { lastErrnoName } from './errno.ts';
import * as ffi from './ffi.ts';
import { AT_FDCWD, cString } from './path.ts';

// statx(2), and offsets in struct statx of linux/stat.h.
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BASIC_STATS = 0x7ff;
const statxBytes = 256;
/** nlink, uid, gid, mode, ino and size; ctime and mtime; the device. Not what reading alone changes. */
const compared: readonly (readonly [number, number])[] = [
  [16, 48],
  [96, 128],
  [136, 144],
];
const ctimeAt = 96;

const now = ffi.allocate(statxBytes);

/** What was at a path: told by one statx(2) whether it still is, without opening anything. */
export class FileState {
  readonly #path: Uint8Array;
  readonly #flags: number;
  /** Undefined where nothing was there. */
  readonly #before: Buffer | undefined;

  /** Looks at `path`; `follow`: where its last part is a symbolic link, at what that leads to. */
  constructor(path: string, { follow }: { readonly follow: boolean }) {
    this.#path = cString(path);
    this.#flags = follow ? 0 : AT_SYMLINK_NOFOLLOW;
    this.#before = look(this.#path, this.#flags) === 'found' ? Buffer.from(now) : undefined;
  }

  /** When it changed last, in milliseconds since 1970; undefined where nothing was there. */
  get changedAtMilliseconds(): number | undefined {
    return this.#before === undefined ? undefined : Number(this.#before.readBigInt64LE(ctimeAt)) * 1000;
  }

  /** Whether the same file is there, and unchanged as far as its times tell; or nothing, as before. */
  isCurrent(): boolean {
    const before = this.#before;
    const result = look(this.#path, this.#flags);
    if (result !== 'found') return result === 'missing' && before === undefined;
    return (
      before !== undefined && compared.every(([from, to]) => now.compare(before, from, to, from, to) === 0)
    );
  }
}

/** Fills in `now` where something is at `path`. */
function look(path: Uint8Array, flags: number): 'found' | 'missing' | 'failed' {
  if (ffi.statx(AT_FDCWD, path, flags, STATX_BASIC_STATS, now) === 0) return 'found';
  const code = lastErrnoName();
  return code === 'ENOENT' || code === 'ENOTDIR' ? 'missing' : 'failed';
}
