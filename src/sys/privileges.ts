import { readFileSync } from 'node:fs';

import { check, SyscallError, lastErrnoName } from './errno.ts';
import * as ffi from './ffi.ts';

const PR_SET_DUMPABLE = 4;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const RLIMIT_CORE = 4;
const F_SETFD = 2;

/** Capabilities by their numbers (include/uapi/linux/capability.h, Linux 7.0). */
const capabilityNames = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const;

/** The name of a capability (capabilities(7)). */
export type Capability = (typeof capabilityNames)[number];

/** What a thread may do beyond an ordinary process, and ever come to. */
export interface Privileges {
  readonly effective: readonly string[];
  /** No program that this one executes could have more than these. */
  readonly bounding: readonly string[];
  readonly noNewPrivileges: boolean;
}

/** The privileges of the thread that calls, by /proc (proc_pid_status(5)). */
export function ownPrivileges(): Privileges {
  const status = readFileSync('/proc/thread-self/status', 'latin1');
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(status)?.[1] ?? '0';
  return {
    effective: namesOf(field('CapEff')),
    bounding: namesOf(field('CapBnd')),
    noNewPrivileges: field('NoNewPrivs') === '1',
  };
}

function namesOf(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  // A newer kernel may have some that have no name here.
  return Array.from({ length: 64 }, (_, number) => number)
    .filter((number) => (bits >> BigInt(number)) & 1n)
    .map((number) => capabilityNames[number] ?? `capability ${number}`);
}

/**
 * Takes every capability but `kept` from what this thread can ever come to, and the way to new ones by set-id files. It
 * holds from the next execve(2) on, for all threads of the new program. Throws SyscallError: EPERM without CAP_SETPCAP.
 */
export function dropPrivileges(kept: readonly Capability[]): void {
  const keep = new Set<number>(kept.map((name) => capabilityNames.indexOf(name)));
  for (let number = 0; number < 64; number += 1) {
    if (keep.has(number) || ffi.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) === 0) continue;
    const code = lastErrnoName();
    // Beyond the last one that the kernel knows.
    if (code === 'EINVAL') break;
    throw new SyscallError('prctl', code, 'PR_CAPBSET_DROP');
  }
  check('prctl', ffi.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), 'PR_CAP_AMBIENT');
  check('prctl', ffi.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'PR_SET_NO_NEW_PRIVS');
}

/** From now on the process leaves no core file, and only root with CAP_SYS_PTRACE looks into it. Throws SyscallError. */
export function forbidDumps(): void {
  check('prlimit', ffi.prlimit(0, RLIMIT_CORE, ffi.allocate(16), null), 'RLIMIT_CORE');
  check('prctl', ffi.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), 'PR_SET_DUMPABLE');
}

/**
 * Goes on as the program at `path` (execve(2)): the same process, all its threads gone, and its open files too but standard
 * input, output and error and `kept`. Throws SyscallError; else it does not return.
 */
export function executeInstead(
  path: string,
  argumentList: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  kept: readonly number[],
): never {
  // Node makes all that it inherits close-on-exec (uv_disable_stdio_inheritance). What is not open is no matter.
  for (const fd of [0, 1, 2, ...kept]) ffi.fcntl(fd, F_SETFD, 0);
  const assignments = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  const strings = { arguments: pointers(argumentList), environment: pointers(assignments) };
  ffi.execve(terminated(path), strings.arguments.list, strings.environment.list);
  throw new SyscallError('execve', lastErrnoName(), path);
}

/** An array of addresses of `texts`, and what has to stay alive as long as it is used. */
function pointers(texts: readonly string[]): { readonly list: Buffer; readonly texts: readonly Buffer[] } {
  const buffers = texts.map(terminated);
  const list = ffi.allocate((buffers.length + 1) * 8);
  for (const [index, buffer] of buffers.entries()) list.writeBigUInt64LE(ffi.addressOf(buffer), index * 8);
  return { list, texts: buffers };
}

function terminated(text: string): Buffer {
  const bytes = Buffer.from(text);
  const memory = ffi.allocate(bytes.length + 1);
  memory.set(bytes);
  return memory;
}
