/**
 * `path` as the kernel takes it: its bytes (UTF-8 for a text) and a final NUL. Throws TypeError for one that holds a
 * NUL, which the kernel would silently cut there.
 */
export function cString(path: string | Uint8Array): Buffer {
  const hasNul = typeof path === 'string' ? path.includes('\0') : path.includes(0);
  if (hasNul) throw new TypeError('a path or name with a NUL in it');
  // Both lie outside of the collector's heap: in Node's pool, or in memory of their own.
  if (typeof path === 'string') return Buffer.from(`${path}\0`);
  const text = Buffer.allocUnsafe(path.length + 1);
  text.set(path);
  text[path.length] = 0;
  return text;
}

/** A path or name that is a binary string, each character one byte, as the kernel takes it; else as cString. */
export function binaryCString(path: string): Buffer {
  if (path.includes('\0')) throw new TypeError('a path or name with a NUL in it');
  return Buffer.from(`${path}\0`, 'latin1');
}

/** The empty path, for calls that take the descriptor itself (AT_EMPTY_PATH). */
export const emptyPath: Buffer = cString('');

/** AT_FDCWD: paths are relative to the working directory. */
export const AT_FDCWD = -100;

/** The path by which the kernel finds what descriptor `fd` of this process refers to. Needs /proc. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}
