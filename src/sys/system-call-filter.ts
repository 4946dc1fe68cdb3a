import { lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';

// A seccomp filter, seccomp(2): a program of classic BPF over struct seccomp_data { int nr; u32 arch; u64 ip; u64 args[6] }.

const loadWord = 0x20;
const jumpIfEqual = 0x15;
const jumpIfAtLeast = 0x35;
const answer = 0x06;
const offsetOf = { number: 0, architecture: 4, firstArgument: 16, thirdArgument: 32 };
const allow = 0x7fff_0000;
const killProcess = 0x8000_0000;
const failWith = (errno: number): number => 0x0005_0000 | errno;
const EPERM = 1;
/** What asks the kernel's keyrings and changes nothing (keyring.ts): KEYCTL_DESCRIBE, SEARCH, READ, PKEY_QUERY, PKEY_VERIFY. */
const keyctlQuestions = [6, 10, 11, 24, 28] as const;
/** Taken with the keyring of the process itself for what is linked to, which nobody else sees. */
const KEYCTL_LINK = 8;
const KEY_SPEC_PROCESS_KEYRING = 0xffff_fffe;
const EAFNOSUPPORT = 97;
const AF_UNIX = 1;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
/** From here on are the numbers of x32, another ABI of x86-64. */
const x32Numbers = 0x4000_0000;

interface Architecture {
  /** AUDIT_ARCH_*, include/uapi/linux/audit.h. */
  readonly audit: number;
  readonly seccomp: number;
  readonly socket: number;
  readonly keyctl: number;
  readonly denied: readonly number[];
}

/**
 * What the service never does and whoever came to act in its place would want to, by name, with the numbers of x86-64
 * and arm64.
 */
const deniedCalls: Readonly<Record<string, readonly [number, number]>> = {
  // Other programs, and the memory of other processes.
  execve: [59, 221],
  execveat: [322, 281],
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  // The kernel itself.
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  syslog: [103, 116],
  // The machine.
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  adjtimex: [159, 171],
  clock_adjtime: [305, 266],
  acct: [163, 89],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  // Ways around paths, roots and identities.
  open_by_handle_at: [304, 265],
  pivot_root: [155, 41],
  chroot: [161, 51],
  personality: [135, 92],
  capset: [126, 91],
  setuid: [105, 146],
  setgid: [106, 144],
  setresuid: [117, 147],
  setresgid: [119, 149],
  setreuid: [113, 145],
  setregid: [114, 143],
  setgroups: [116, 159],
  add_key: [248, 217],
  request_key: [249, 218],
};

const architectures: Readonly<Partial<Record<NodeJS.Architecture, Architecture>>> = {
  x64: {
    audit: 0xc000_003e,
    seccomp: 317,
    socket: 41,
    keyctl: 250,
    denied: Object.values(deniedCalls).map(([x64]) => x64),
  },
  arm64: {
    audit: 0xc000_00b7,
    seccomp: 277,
    socket: 198,
    keyctl: 219,
    denied: Object.values(deniedCalls).map(([, arm64]) => arm64),
  },
};

/**
 * From now on every thread of this process gets EPERM for calls that the service never makes (among them execve), and
 * makes sockets of no other family than AF_UNIX, and asks keyrings without changing them. It cannot be undone. False where the kernel has no seccomp or this
 * processor's numbers are not known here. Needs no_new_privs on every thread. Throws SyscallError.
 */
export function filterSystemCalls(): boolean {
  const architecture = architectures[process.arch];
  if (architecture === undefined) return false;
  const program = programFor(architecture);
  const header = ffi.allocate(16);
  header.writeUInt16LE(program.length / 8, 0);
  header.writeBigUInt64LE(ffi.addressOf(program), 8);
  const result = ffi.seccomp(
    architecture.seccomp,
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_FILTER_FLAG_TSYNC,
    header,
  );
  if (result === 0) return true;
  // The number of a thread that could not be brought along.
  if (result > 0) throw new SyscallError('seccomp', 'ESRCH', `thread ${result} has another filter`);
  const code = lastErrnoName();
  if (code === 'ENOSYS' || code === 'EINVAL') return false;
  throw new SyscallError('seccomp', code);
}

type Instruction = readonly [code: number, where: number, whereNot: number, value: number];

/** Lets some operations of keyctl(2) pass and no others; falls through for other calls. */
function keyctlInstructions(keyctl: number): readonly Instruction[] {
  const questions = keyctlQuestions.length;
  const instructions: readonly Instruction[] = [
    [loadWord, 0, 0, offsetOf.firstArgument],
    ...keyctlQuestions.map((operation, index) => [jumpIfEqual, questions - index + 2, 0, operation] as const),
    [jumpIfEqual, 0, 3, KEYCTL_LINK],
    [loadWord, 0, 0, offsetOf.thirdArgument],
    [jumpIfEqual, 0, 1, KEY_SPEC_PROCESS_KEYRING],
    [answer, 0, 0, allow],
    [answer, 0, 0, failWith(EPERM)],
  ];
  return [[jumpIfEqual, 0, instructions.length, keyctl], ...instructions];
}

function programFor({ audit, socket, keyctl, denied }: Architecture): Buffer {
  // Jumps say how many instructions to pass over: where equal, where not.
  const ofKeyctl = keyctlInstructions(keyctl);
  const rest = denied.length + ofKeyctl.length;
  const instructions: readonly Instruction[] = [
    [loadWord, 0, 0, offsetOf.architecture],
    [jumpIfEqual, 1, 0, audit],
    [answer, 0, 0, killProcess],
    [loadWord, 0, 0, offsetOf.number],
    [jumpIfAtLeast, 0, 1, x32Numbers],
    [answer, 0, 0, killProcess],
    ...denied.map((number, index) => [jumpIfEqual, rest - index + 4, 0, number] as const),
    ...ofKeyctl,
    [jumpIfEqual, 0, 3, socket],
    [loadWord, 0, 0, offsetOf.firstArgument],
    [jumpIfEqual, 1, 0, AF_UNIX],
    [answer, 0, 0, failWith(EAFNOSUPPORT)],
    [answer, 0, 0, allow],
    [answer, 0, 0, failWith(EPERM)],
  ];
  const program = ffi.allocate(instructions.length * 8);
  for (const [index, [code, where, whereNot, value]] of instructions.entries()) {
    program.writeUInt16LE(code, index * 8);
    program.writeUInt8(where, index * 8 + 2);
    program.writeUInt8(whereNot, index * 8 + 3);
    program.writeUInt32LE(value, index * 8 + 4);
  }
  return program;
}
