import { DumpError, ImageError, TreeError } from '../../composefs/errors.ts';
import { UnknownMounts } from '../../store/needed-objects.ts';
import { StoreError } from '../../store/objects.ts';
import { ScanError } from '../../store/scan-directory.ts';
import { CommandError } from '../command-error.ts';
import { fileErrorReason } from '../input-file.ts';

/**
 * Runs a command's work, and turns what users can cause (broken files, missing ones, directories that change) into
 * CommandError. `about` is the path that errors without one of their own are about. Anything else is a bug and goes on
 * as it is.
 */
export async function explained<Result>(
  about: string,
  work: () => Result | Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw asCommandError(about, error);
  }
}

/** What `explained` throws in place of `error`. */
export function asCommandError(about: string, error: unknown): unknown {
  if (error instanceof ScanError || error instanceof StoreError || error instanceof UnknownMounts)
    return new CommandError(error.message);
  if (error instanceof ImageError || error instanceof DumpError || error instanceof TreeError)
    return new CommandError(`${about}: ${error.message}`);
  const reason = fileErrorReason(error);
  if (reason === undefined) return error;
  return new CommandError(`${pathOf(error) ?? about}: ${reason}`);
}

function pathOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('path' in error)) return undefined;
  return typeof error.path === 'string' ? error.path : undefined;
}
