import { check, isSyscallError } from './errno.ts';
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
  setLimits({ soft, hard: openFilesLimit().hard });
}

/**
 * Raises the soft limit to the hard one, and both to `wanted` where the hard one is below that and the process may do so
 * (CAP_SYS_RESOURCE). Answers what it is then. Throws SyscallError.
 */
export function raiseOpenFilesLimit(wanted: number): number {
  const { hard } = openFilesLimit();
  if (hard < wanted) {
    try {
      setLimits({ soft: wanted, hard: wanted });
      return wanted;
    } catch (error) {
      if (!isSyscallError(error, 'EPERM')) throw error;
    }
  }
  setOpenFilesLimit(hard);
  return hard;
}

function setLimits({ soft, hard }: OpenFilesLimit): void {
  const value = ffi.allocate(16);
  value.writeBigUInt64LE(BigInt(soft), 0);
  value.writeBigUInt64LE(BigInt(hard), 8);
  check('prlimit', ffi.prlimit(0, RLIMIT_NOFILE, value, null), 'RLIMIT_NOFILE');
}
