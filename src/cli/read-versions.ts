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
  const path = join(state, versionsFileName);
  const bytes = withPath(path, () => {
    try {
      return readFileSync(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return new Uint8Array();
      if (error instanceof Error && 'code' in error && error.code === 'EACCES')
        throw new CommandError(`${path}: only root can read which versions were mounted`);
      throw error;
    }
  });
  try {
    return parseVersionsFile(bytes);
  } catch (error) {
    if (error instanceof VersionsFileInvalid) throw new CommandError(describeDamage(path, error));
    throw error;
  }
}
