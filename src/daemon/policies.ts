import { formatFault, PolicyInvalid, type PolicyFault } from '../policy/fault.ts';
import { loadPolicy } from '../policy/load.ts';
import type { Policy } from '../policy/policy.ts';
import type { Log } from './calls/audit.ts';

/** The policy in force. Another one has another number. */
export interface PolicySnapshot {
  readonly policy: Policy;
  readonly generation: number;
  readonly loadedAt: Date;
}

/** The policy in force, and how another comes into force: all or nothing. */
export class Policies {
  readonly #directories: readonly string[];
  readonly #log: Log;
  #current: PolicySnapshot;
  #lastFault: PolicyFault | undefined;

  private constructor(directories: readonly string[], log: Log, current: PolicySnapshot) {
    this.#directories = directories;
    this.#log = log;
    this.#current = current;
  }

  /** Loads the policy of `directories` (each holding policy.d and keys.d). Throws PolicyInvalid. */
  static open(directories: readonly string[], log: Log): Policies {
    const policy = load(directories, log);
    return new Policies(directories, log, { policy, generation: 1, loadedAt: new Date() });
  }

  /** The policy in force. */
  get current(): PolicySnapshot {
    return this.#current;
  }

  /** The number of the policy in force. */
  get generation(): number {
    return this.#current.generation;
  }

  /** Why the newest policy on disk is not the one in force; undefined where it is. */
  get lastError(): string | undefined {
    return this.#lastFault === undefined ? undefined : formatFault(this.#lastFault);
  }

  /**
   * Reads the policy anew and puts it into force. Throws PolicyInvalid: then the old one stays in force, and
   * lastError says why.
   */
  reload(): PolicySnapshot {
    try {
      const policy = load(this.#directories, this.#log);
      this.#current = { policy, generation: this.#current.generation + 1, loadedAt: new Date() };
      this.#lastFault = undefined;
      return this.#current;
    } catch (error) {
      if (error instanceof PolicyInvalid) this.#lastFault = error.faults[0];
      throw error;
    }
  }
}

function load(directories: readonly string[], log: Log): Policy {
  const { policy, warnings } = loadPolicy(directories, { owners: 'refuse' });
  for (const warning of warnings) log.warn({ warning }, 'policy');
  return policy;
}
