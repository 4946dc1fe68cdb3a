import * as ffi from './ffi.ts';

/**
 * Ends the process at once (_exit(2)), without waiting for its threads, as process.exit does: one that is stuck in a system
 * call would hold it up for ever.
 */
export function exitNow(code: number): never {
  ffi.exitProcess(code);
  throw new Error('_exit returned');
}
