import { check } from './errno.ts';
import * as ffi from './ffi.ts';

const RLIMIT_NOFILE = 7;

/** How many files this process may have open: the limit in force, and how far it may be raised. */
export interface OpenFilesLimit {
  readonly soft: number;
  readonly hard: number;
}

/** RLIMIT_NOFILE of this process (getrlimit(2)). */
export function openFilesLimit(): OpenFilesLimit {
  const into = ffi.allocate(16);
  check('prlimit', ffi.prlimit(0, RLIMIT_NOFILE, null, into), 'RLIMIT_NOFILE');
  return { soft: Number(into.readBigUInt64LE(0)), hard: Number(into.readBigUInt64LE(8)) };
}

/** Sets the soft limit, up to the hard one. Children inherit it. Throws SyscallError. */
export function setOpenFilesLimit(soft: number): void {
  const value = ffi.allocate(16);
  value.writeBigUInt64LE(BigInt(soft), 0);
  value.writeBigUInt64LE(BigInt(openFilesLimit().hard), 8);
  check('prlimit', ffi.prlimit(0, RLIMIT_NOFILE, value, null), 'RLIMIT_NOFILE');
}

/** Raises the soft limit to the hard one, and answers that. */
export function raiseOpenFilesLimit(): number {
  const { hard } = openFilesLimit();
  setOpenFilesLimit(hard);
  return hard;
}
