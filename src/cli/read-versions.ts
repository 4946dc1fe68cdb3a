import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NewestVersion } from '../policy/versions-file.ts';
import {
  describeDamage,
  parseVersionsFile,
  VersionsFileInvalid,
  versionsFileName,
} from '../policy/versions-file.ts';
import { CommandError } from './command-error.ts';
import { withPath } from './input-file.ts';

/** Where the service keeps its state unless told otherwise. */
export const defaultState = '/var/lib/cfs-mountd';

/** The newest versions that the service with this state directory remembers; none where it has written none yet. */
export function readVersions(state: string): readonly NewestVersion[] {
  try {
    return parseVersionsFile(readVersionsFile(state));
  } catch (error) {
    if (error instanceof VersionsFileInvalid)
      throw new CommandError(describeDamage(join(state, versionsFileName), error));
    throw error;
  }
}

/** The bytes of the versions file, none where there is no file. Throws CommandError. */
export function readVersionsFile(state: string): Uint8Array {
  const path = join(state, versionsFileName);
  return withPath(path, () => {
    try {
      return readFileSync(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return new Uint8Array();
      if (error instanceof Error && 'code' in error && error.code === 'EACCES')
        throw new CommandError(`${path}: only root can read which versions were mounted`);
      throw error;
    }
  });
}
