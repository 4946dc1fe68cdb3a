import { constants } from 'node:os';

import { lastErrno } from './ffi.ts';

// Where two names share a number, the one that the manual pages use is kept.
const preferred = new Set(['EAGAIN', 'EOPNOTSUPP']);

const names = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) {
  if (!names.has(number) || preferred.has(name)) names.set(number, name);
}
// What Node does not know: errno(3) of Linux.
for (const [number, name] of [
  [15, 'ENOTBLK'],
  [53, 'EBADR'],
  [87, 'EUSERS'],
  [116, 'ESTALE'],
  [65, 'ENOPKG'],
  [117, 'EUCLEAN'],
  [126, 'ENOKEY'],
  [127, 'EKEYEXPIRED'],
  [128, 'EKEYREVOKED'],
  [129, 'EKEYREJECTED'],
] as const) {
  if (!names.has(number)) names.set(number, name);
}

/** The name of an errno, such as `EPERM`; `E<number>` where it has none here. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `E${errno}`;
}

/** A system call that the kernel refused. */
export class SyscallError extends Error {
  /** The call's name, as its manual page has it. */
  readonly syscall: string;
  /** The name of errno, such as `EPERM`. */
  readonly code: string;
  /** What the call was about, or the kernel's own message where it gave one. */
  readonly detail?: string;

  constructor(syscall: string, code: string, detail?: string) {
    super(`${syscall}: ${code}${detail === undefined ? '' : ` (${detail})`}`);
    this.name = 'SyscallError';
    this.syscall = syscall;
    this.code = code;
    if (detail !== undefined) this.detail = detail;
  }
}

/**
 * `result` where the call succeeded; throws SyscallError where it is negative. To be called straight after the call,
 * while errno is still its own.
 */
export function check(syscall: string, result: number, detail?: string): number {
  if (result < 0) throw new SyscallError(syscall, errnoName(lastErrno()), detail);
  return result;
}

/** The name of errno of the call that just failed. */
export function lastErrnoName(): string {
  return errnoName(lastErrno());
}

/** Whether `error` is a SyscallError with one of `codes`. */
export function isSyscallError(error: unknown, ...codes: readonly string[]): error is SyscallError {
  return error instanceof SyscallError && (codes.length === 0 || codes.includes(error.code));
}

/**
 * `error` where it is a SyscallError, and what a call of node:fs throws as one, its path for the detail; undefined for
 * anything else.
 */
export function asSyscallError(error: unknown): SyscallError | undefined {
  if (error instanceof SyscallError) return error;
  if (!(error instanceof Error) || !('syscall' in error) || !('code' in error)) return undefined;
  const { syscall, code } = error;
  if (typeof syscall !== 'string' || typeof code !== 'string') return undefined;
  const path = 'path' in error && typeof error.path === 'string' ? error.path : undefined;
  return new SyscallError(syscall, code, path);
}
