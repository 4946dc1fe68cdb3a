import { isSyscallError } from '../sys/errno.ts';
import { monotonicMicroseconds, notifyServiceManager } from '../sys/notify.ts';
import type { Log } from './calls/audit.ts';
import type { Policies } from './policies.ts';

/** Tells the service manager how the service is, by sd_notify(3); without one, nobody. */
export class Notifier {
  readonly #socketPath: string | undefined;
  readonly #log: Log;
  readonly #policies: Policies;

  constructor(socketPath: string | undefined, policies: Policies, log: Log) {
    this.#socketPath = socketPath;
    this.#policies = policies;
    this.#log = log;
  }

  /** The service answers. */
  ready(): void {
    const { lastError, current } = this.#policies;
    const status =
      lastError === undefined ? `policy ${current.policy.digest}` : `old policy in force: ${lastError}`;
    this.#notify(`READY=1\nSTATUS=${status.replaceAll(/\s+/g, ' ')}`);
  }

  /** The service finishes what is under way. */
  stopping(): void {
    this.#notify('STOPPING=1');
  }

  /**
   * Runs `reload` between RELOADING=1 and READY=1. Once it is over, no reply that the old policy decided can be sent
   * any more: replies.ts compares the policy's number as it sends.
   */
  reloading<Result>(reload: () => Result): Result {
    this.#notify(`RELOADING=1\nMONOTONIC_USEC=${String(monotonicMicroseconds())}`);
    try {
      return reload();
    } finally {
      this.ready();
    }
  }

  /**
   * Has the service manager keep `fds` under `name` (FDSTORE=1), and hand them to the process that it starts next. It is not
   * to look whether they are of use still, which it could not tell.
   */
  keep(name: string, fds: readonly number[]): void {
    this.#notify(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, fds);
  }

  /** What is kept under `name` is wanted no more. */
  drop(name: string): void {
    this.#notify(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  }

  #notify(text: string, fds: readonly number[] = []): void {
    try {
      notifyServiceManager(text, this.#socketPath, fds);
    } catch (error) {
      if (!isSyscallError(error)) throw error;
      this.#log.warn({ reason: error.message }, 'the service manager could not be told');
    }
  }
}
