import { defaultPolicyDirectories } from '../policy/load.ts';
import { exitNow } from '../sys/exit.ts';
import { OwnedFd } from '../sys/fd.ts';
import { openLog, type Log } from './calls/audit.ts';
import type { Confinement } from './confine.ts';
import { Connections } from './connections/connections.ts';
import { handedOver, type HandedOver } from '../sys/handed-over.ts';
import { limits } from './callers/limits.ts';
import { Listener, type ListenerOptions } from './connections/listener.ts';
import type { LogLevel } from './calls/log-level.ts';
import { Notifier } from './notifier.ts';
import { Policies } from './policies.ts';
import { Rate } from './callers/rate.ts';
import { tell } from './calls/refusal.ts';
import { createServer } from './service.ts';
import { Shares } from './callers/shares.ts';
import { isKeptName } from './callers/superblock-watches.ts';
import { Turns } from './connections/turns.ts';
import { openWorkshop, type Workshop } from './workshop.ts';

/** How the service is started. */
export interface DaemonOptions {
  /** Where to listen, unless the service manager hands sockets over. */
  readonly socketPath: string;
  /** Folders that hold policy.d and keys.d, the first winning; undefined for the default ones. */
  readonly policyDirectories: readonly string[] | undefined;
  /** For newest versions, and for copies of images as long as they are mounted. Made where it is missing. */
  readonly stateDirectory: string;
  readonly logLevel: LogLevel;
  readonly version: string;
  /** How the process is fenced in, for Describe. */
  readonly confinement: Confinement;
  /** LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES and NOTIFY_SOCKET are read from here. */
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * Starts the service, which is ready when this returns. It ends the process itself: by SIGTERM or SIGINT with 0, once what
 * is under way is finished. Throws where it cannot start: with no policy that loads, a socket that another serves, or
 * a state folder that cannot be used.
 */
export function startDaemon(options: DaemonOptions): void {
  prepareProcess();
  const logs = openLog(options.logLevel);
  const { log } = logs;
  endOnBugs(log);
  const policies = Policies.open(options.policyDirectories ?? defaultPolicyDirectories, log);
  const notifier = new Notifier(options.environment['NOTIFY_SOCKET'], policies, log);
  const handed = handedOver(options.environment, process.pid);
  const { stateDirectory } = options;
  const workshop = openWorkshop({ stateDirectory, policies, log, handed, descriptorStore: notifier });
  const reload = (): void => {
    notifier.reloading(() => {
      const { policy, generation } = policies.reload();
      log.info({ policy: policy.digest, generation }, 'policy reloaded');
    });
    workshop.preparation.begin();
  };
  const connections = new Connections({
    server: createServer({
      version: options.version,
      confinement: options.confinement,
      workshop,
      logs,
      reload,
    }),
    turns: new Turns(limits.callsInFlightPerUser, limits.callsInFlight),
    descriptors: new Shares('descriptorsInFlightPerUser', 'descriptorsInFlight'),
    buffered: new Shares('bufferedBytesPerUser', 'bufferedBytes'),
    closing: workshop.closing,
    discard: (mount) => {
      workshop.sweeper.discardSent(new OwnedFd(mount));
    },
    log,
    generation: () => policies.generation,
  });
  const listener = listen(options.socketPath, handed, connections, log);
  process.on('SIGHUP', () => {
    try {
      reload();
    } catch (error) {
      log.error({ reason: tell(error).reason }, 'the policy does not load; the old one stays in force');
    }
  });
  stopOnSignals(async () => {
    await stop(listener, connections, workshop, notifier);
    await logs.output.drained();
  }, log);
  notifier.ready();
  log.info({ version: options.version, policy: policies.current.policy.digest }, 'ready');
  workshop.preparation.begin();
}

function prepareProcess(): void {
  process.umask(0o022);
  // Root's signal for Node's debugger, which has no place in a service that holds root's rights.
  process.on('SIGUSR1', () => undefined);
}

function listen(
  socketPath: string,
  handed: readonly HandedOver[],
  connections: Connections,
  log: Log,
): Listener {
  const failures = new Rate(1000);
  const listenerOptions: ListenerOptions = {
    accepted: (socket) => {
      connections.accept(socket);
    },
    failed: (error) => {
      const suppressed = failures.pass(performance.now());
      if (suppressed !== undefined) log.error({ err: error, suppressed }, 'no connection could be accepted');
    },
  };
  const sockets = handed.filter(({ name }) => !isKeptName(name)).map(({ fd }) => fd);
  return sockets.length > 0
    ? Listener.inherit(sockets, listenerOptions)
    : Listener.bind(socketPath, listenerOptions);
}

async function stop(
  listener: Listener,
  connections: Connections,
  workshop: Workshop,
  notifier: Notifier,
): Promise<void> {
  notifier.stopping();
  listener.close();
  await connections.finish();
  await workshop.stop();
}

/** SIGTERM and SIGINT finish what is under way; a second one, or the time limit, ends the process all the same. */
function stopOnSignals(finish: () => Promise<void>, log: Log): void {
  let stopping = false;
  const giveUp = (reason: string): void => {
    log.warn({ reason }, 'ended before everything was finished');
    exitNow(1);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping) {
      giveUp(`a second ${signal}`);
      return;
    }
    stopping = true;
    log.info({ signal }, 'stopping');
    setTimeout(() => {
      giveUp('the time limit');
    }, limits.stopMilliseconds);
    finish().then(
      () => {
        // Not process.exit: that waits for threads, and one may be stuck in a client's storage.
        exitNow(0);
      },
      (error: unknown) => {
        log.error({ err: error }, 'bug while stopping');
        exitNow(1);
      },
    );
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

/** What nobody caught leaves the process in no known state: it ends, and the service manager starts it again. */
function endOnBugs(log: Log): void {
  const end = (error: unknown): void => {
    log.fatal({ err: error }, 'bug that nobody caught');
    exitNow(1);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}
