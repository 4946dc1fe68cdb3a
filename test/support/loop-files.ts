import { readdirSync, readFileSync } from 'node:fs';

/** The files that the machine's loop devices show. */
export function loopFiles(): string[] {
  return readdirSync('/sys/block').flatMap((device) => {
    try {
      return [readFileSync(`/sys/block/${device}/loop/backing_file`, 'utf8').trim()];
    } catch {
      // No loop device, or one that shows nothing, or no longer.
      return [];
    }
  });
}
