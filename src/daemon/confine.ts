import { isSyscallError } from '../sys/errno.ts';
import { raiseOpenFilesLimit } from '../sys/limits.ts';
import {
  dropPrivileges,
  executeInstead,
  forbidDumps,
  ownPrivileges,
  type Capability,
  type Privileges,
} from '../sys/privileges.ts';
import { filterSystemCalls } from '../sys/system-call-filter.ts';
import { handedOver } from '../sys/handed-over.ts';

/** What the service needs beyond an ordinary process, each with what for. The systemd unit has the same list. */
const neededFor: Readonly<Partial<Record<Capability, string>>> = {
  CAP_SYS_ADMIN: 'mount(2) and its kin, namespaces, loop devices',
  CAP_SYS_CHROOT: 'setns(2) into a mount namespace',
  CAP_SYS_PTRACE: 'the namespaces of peers, whose processes are of other users',
  CAP_DAC_OVERRIDE: 'overlayfs opens the files of its layers with the rights of whoever mounted it',
  CAP_DAC_READ_SEARCH: 'the same',
  CAP_FOWNER: 'the same: files of any owner, opened without a new time of access',
  CAP_SETUID: 'the ID maps of the user namespace in which mounts get locked (user_namespaces(7))',
  CAP_SETGID: 'the same',
  CAP_SETFCAP: 'the same: mapping user 0 (Linux 5.12)',
};

/** The capabilities that the service keeps. */
export const keptCapabilities: readonly Capability[] = Object.keys(neededFor) as Capability[];

/**
 * Variables that change how Node, its TLS library or its event loop work: NODE_OPTIONS can open a debugger. Those of the loader
 * (LD_PRELOAD and others) were obeyed before anything here runs: they are the administrator's.
 */
const weakening = /^(NODE_|OPENSSL_|SSL_|UV_)/;

/** How the process is fenced in, as Describe tells it. */
export interface Confinement {
  readonly capabilities: readonly string[];
  readonly fences: readonly string[];
}

/** As the unit says (LimitNOFILE): every connection that the limits allow, with its descriptors, and as many mounts on their way. */
const openFiles = 65_536;

/**
 * Gives up what the service never needs, before it looks at its first peer. Capabilities are each thread's own, and Node has
 * threads already as the first line runs: so the process executes its own program once more, with less, and only where
 * it has more than it needs. Throws SyscallError.
 */
export function confineProcess(): Confinement {
  raiseOpenFilesLimit(openFiles);
  if (hasTooMuch()) startAgainWithLess();
  forbidDumps();
  const filtered = filterSystemCalls();
  const { effective, noNewPrivileges } = ownPrivileges();
  const fences = [
    'undumpable',
    ...(noNewPrivileges ? ['noNewPrivileges'] : []),
    ...(filtered ? ['seccomp'] : []),
  ];
  return { capabilities: effective, fences };
}

function hasTooMuch(): boolean {
  return hasTooMany(ownPrivileges()) || Object.keys(process.env).some((name) => weakening.test(name));
}

function hasTooMany({ bounding, noNewPrivileges }: Privileges): boolean {
  const kept = new Set<string>(keptCapabilities);
  return !noNewPrivileges || bounding.some((name) => !kept.has(name));
}

function startAgainWithLess(): void {
  try {
    dropPrivileges(keptCapabilities);
  } catch (error) {
    // Whoever started the service took CAP_SETPCAP and left others: then it has what it was given.
    if (!isSyscallError(error, 'EPERM')) throw error;
    return;
  }
  const environment = Object.entries(process.env).filter(([name]) => !weakening.test(name));
  const options = process.execArgv.filter((option) => !/^--(inspect|debug)/.test(option));
  const command = [process.execPath, ...options, ...process.argv.slice(1)];
  const kept = handedOver(process.env, process.pid).map(({ fd }) => fd);
  executeInstead(process.execPath, command, Object.fromEntries(environment), kept);
}
