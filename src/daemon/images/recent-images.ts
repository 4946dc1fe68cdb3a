import { FileState } from '../../sys/file-state.ts';
import { settledMilliseconds, type Places } from './installed-files.ts';

interface Recent<Found> {
  readonly directories: readonly string[];
  readonly states: readonly FileState[];
  readonly found: Found;
  readonly until: number;
}

/** How long it counts that only root could write the folders above: then they are looked at again. */
const countsMilliseconds = 1000;
const namesMax = 4096;

/**
 * What was found under a name of late, as long as nothing has changed where it was looked for: a request then opens no
 * file. It takes the times by which filesystems note changes, and so only what last changed some time before it was found.
 */
export class RecentImages<Found> {
  readonly #byName = new Map<string, Recent<Found>>();

  /** What `name` leads to below `directories`, if that was found of late and everything is as it was. */
  recall(name: string, directories: readonly string[]): Found | undefined {
    const recent = this.#byName.get(name);
    if (recent === undefined) return undefined;
    const counts = recent.directories === directories && performance.now() < recent.until;
    if (counts && recent.states.every((state) => state.isCurrent())) return recent.found;
    this.#byName.delete(name);
    return undefined;
  }

  /** Remembers that `name` led to `found`. */
  remember(name: string, directories: readonly string[], places: Places, found: Found): void {
    const states = [
      ...places.folders.map((path) => new FileState(path, { follow: true })),
      ...places.files.map((path) => new FileState(path, { follow: false })),
    ];
    // Had it changed since it was opened, or could it change without a sign, it would have changed just now.
    const settled = Date.now() - settledMilliseconds;
    if (!states.every(({ changedAtMilliseconds = 0 }) => changedAtMilliseconds < settled - 1000)) return;
    if (this.#byName.size >= namesMax) this.#byName.clear();
    this.#byName.set(name, { directories, states, found, until: performance.now() + countsMilliseconds });
  }
}
