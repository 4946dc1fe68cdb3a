import koffi from 'koffi';

// The only file that knows koffi. Every binding gets its type here, so that nothing untyped leaves the file.
// Buffers are passed in place: what the kernel writes is in them when the call returns.
//
// The GNU C library has wrappers for the newer calls only since 2.36, so these go through syscall(2). Numbers from
// 424 on are the same on every architecture, which is why no table per architecture is needed.
// Passing fixed arguments to variadic functions is right for integers and pointers in the ABIs of x86_64 and of arm64
// on Linux.

const libc = koffi.load('libc.so.6');

/** Memory for the kernel: it stays where it is, and the kernel may write to it. */
type Memory = Uint8Array;

/** errno of the last call that failed in this thread; true only straight after that call. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Address of `memory`, to be written into a struct that points to it. Valid as long as `memory` is reachable. */
export function addressOf(memory: Memory): bigint {
  return koffi.address(memory);
}

/** `bytes` zeroed bytes that the collector never moves. */
export function allocate(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes));
}

// Files

export const close: (fd: number) => number = libc.func('close', 'int', ['int']);
export const openat: (dirFd: number, path: Memory, flags: number, mode: number) => number = libc.func(
  'openat',
  'int',
  ['int', 'void *', 'int', 'uint'],
);
export const openat2: (nr: 437, dirFd: number, path: Memory, how: Memory, size: number) => number = libc.func(
  'syscall',
  'long',
  ['long', 'int', 'void *', 'void *', 'size_t'],
);
export const read: (fd: number, into: Memory, bytes: number) => number = libc.func('read', 'long', [
  'int',
  'void *',
  'size_t',
]);
/** fcntl(2) with an integer argument. */
export const fcntl: (fd: number, command: number, argument: number) => number = libc.func('fcntl', 'int', [
  'int',
  'int',
  'long',
]);
/** ioctl(2) with an argument in memory. */
export const ioctl: (fd: number, request: number, argument: Memory) => number = libc.func('ioctl', 'int', [
  'int',
  'ulong',
  'void *',
]);
/** ioctl(2) with an integer argument. */
export const ioctlNumber: (fd: number, request: number, argument: number) => number = libc.func(
  'ioctl',
  'int',
  ['int', 'ulong', 'long'],
);
export const memfdCreate: (name: string, flags: number) => number = libc.func('memfd_create', 'int', [
  'str',
  'uint',
]);
export const linkat: (fromFd: number, from: Memory, toFd: number, to: Memory, flags: number) => number =
  libc.func('linkat', 'int', ['int', 'void *', 'int', 'void *', 'int']);
export const statx: (dirFd: number, path: Memory, flags: number, mask: number, into: Memory) => number =
  libc.func('statx', 'int', ['int', 'void *', 'int', 'uint', 'void *']);
export const getdents64: (fd: number, into: Memory, bytes: number) => number = libc.func(
  'getdents64',
  'long',
  ['int', 'void *', 'size_t'],
);
export const fstatfs: (fd: number, into: Memory) => number = libc.func('fstatfs', 'int', ['int', 'void *']);
export const syncFileRange: (fd: number, offset: number, bytes: number, flags: number) => number = libc.func(
  'sync_file_range',
  'int',
  ['int', 'int64', 'int64', 'uint32'],
);
export const flock: (fd: number, operation: number) => number = libc.func('flock', 'int', ['int', 'int']);
export const fchdir: (fd: number) => number = libc.func('fchdir', 'int', ['int']);
export const llistxattr: (path: Memory, into: Memory, bytes: number) => number = libc.func(
  'llistxattr',
  'long',
  ['void *', 'void *', 'size_t'],
);
export const flistxattr: (fd: number, into: Memory, bytes: number) => number = libc.func(
  'flistxattr',
  'long',
  ['int', 'void *', 'size_t'],
);
export const fgetxattr: (fd: number, name: Memory, into: Memory, bytes: number) => number = libc.func(
  'fgetxattr',
  'long',
  ['int', 'void *', 'void *', 'size_t'],
);
export const lgetxattr: (path: Memory, name: Memory, into: Memory, bytes: number) => number = libc.func(
  'lgetxattr',
  'long',
  ['void *', 'void *', 'void *', 'size_t'],
);

// Sockets

export const socket: (domain: number, type: number, protocol: number) => number = libc.func('socket', 'int', [
  'int',
  'int',
  'int',
]);
export const socketpair: (domain: number, type: number, protocol: number, into: Memory) => number = libc.func(
  'socketpair',
  'int',
  ['int', 'int', 'int', 'void *'],
);
export const bind: (fd: number, address: Memory, bytes: number) => number = libc.func('bind', 'int', [
  'int',
  'void *',
  'uint',
]);
export const listen: (fd: number, backlog: number) => number = libc.func('listen', 'int', ['int', 'int']);
export const connect: (fd: number, address: Memory, bytes: number) => number = libc.func('connect', 'int', [
  'int',
  'void *',
  'uint',
]);
/** accept4(2) that does not ask for the peer's address. */
export const accept4: (fd: number, address: null, bytes: null, flags: number) => number = libc.func(
  'accept4',
  'int',
  ['int', 'void *', 'void *', 'int'],
);
export const sendmsg: (fd: number, header: Memory, flags: number) => number = libc.func('sendmsg', 'long', [
  'int',
  'void *',
  'int',
]);
export const recvmsg: (fd: number, header: Memory, flags: number) => number = libc.func('recvmsg', 'long', [
  'int',
  'void *',
  'int',
]);
export const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Memory,
  length: number,
) => number = libc.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint']);
export const getsockopt: (fd: number, level: number, option: number, into: Memory, bytes: Memory) => number =
  libc.func('getsockopt', 'int', ['int', 'int', 'int', 'void *', 'void *']);
export const shutdown: (fd: number, how: number) => number = libc.func('shutdown', 'int', ['int', 'int']);

// Mounts

export const openTree: (nr: 428, dirFd: number, path: Memory, flags: number) => number = libc.func(
  'syscall',
  'long',
  ['long', 'int', 'void *', 'uint'],
);
export const moveMount: (
  nr: 429,
  fromFd: number,
  from: Memory,
  toFd: number,
  to: Memory,
  flags: number,
) => number = libc.func('syscall', 'long', ['long', 'int', 'void *', 'int', 'void *', 'uint']);
export const fsopen: (nr: 430, fileSystem: string, flags: number) => number = libc.func('syscall', 'long', [
  'long',
  'str',
  'uint',
]);
/** fsconfig(2) with a text for a value. */
export const fsconfigText: (
  nr: 431,
  fd: number,
  command: number,
  key: string | null,
  value: string | null,
  auxiliary: number,
) => number = libc.func('syscall', 'long', ['long', 'int', 'uint', 'str', 'str', 'int']);
export const fsmount: (nr: 432, fd: number, flags: number, attributes: number) => number = libc.func(
  'syscall',
  'long',
  ['long', 'int', 'uint', 'uint'],
);
export const mountSetattr: (
  nr: 442,
  dirFd: number,
  path: Memory,
  flags: number,
  attributes: Memory,
  size: number,
) => number = libc.func('syscall', 'long', ['long', 'int', 'void *', 'uint', 'void *', 'size_t']);
export const mount: (
  source: string,
  target: string,
  fileSystem: string | null,
  flags: number,
  data: string | null,
) => number = libc.func('mount', 'int', ['str', 'str', 'str', 'ulong', 'str']);
export const umount2: (path: Memory, flags: number) => number = libc.func('umount2', 'int', [
  'void *',
  'int',
]);

export const inotifyInit: (flags: number) => number = libc.func('inotify_init1', 'int', ['int']);
export const inotifyAddWatch: (fd: number, path: string, mask: number) => number = libc.func(
  'inotify_add_watch',
  'int',
  ['int', 'str', 'uint'],
);

// Processes and namespaces

export const unshare: (flags: number) => number = libc.func('unshare', 'int', ['int']);
export const setns: (fd: number, type: number) => number = libc.func('setns', 'int', ['int', 'int']);
export const pidfdOpen: (nr: 434, pid: number, flags: number) => number = libc.func('syscall', 'long', [
  'long',
  'int',
  'uint',
]);
export const pidfdSendSignal: (nr: 424, pidfd: number, signal: number, info: null, flags: number) => number =
  libc.func('syscall', 'long', ['long', 'int', 'int', 'void *', 'uint']);
export const kill: (pid: number, signal: number) => number = libc.func('kill', 'int', ['int', 'int']);
export const waitpid: (pid: number, status: null, flags: number) => number = libc.func('waitpid', 'int', [
  'int',
  'void *',
  'int',
]);
export const prlimit: (pid: number, resource: number, value: Memory | null, old: Memory | null) => number =
  libc.func('prlimit', 'int', ['int', 'int', 'void *', 'void *']);
export const prctl: (option: number, value: number, third: 0, fourth: 0, fifth: 0) => number = libc.func(
  'prctl',
  'int',
  ['int', 'ulong', 'ulong', 'ulong', 'ulong'],
);
/** execve(2); `argumentList` and `environment` are arrays of addresses that end with 0. */
export const execve: (path: Memory, argumentList: Memory, environment: Memory) => number = libc.func(
  'execve',
  'int',
  ['void *', 'void *', 'void *'],
);
/** seccomp(2), whose number is not the same everywhere. */
export const seccomp: (nr: number, operation: number, flags: number, argument: Memory) => number = libc.func(
  'syscall',
  'long',
  ['long', 'uint', 'uint', 'void *'],
);
/** keyctl(2) about one key, with a buffer to write to (KEYCTL_DESCRIBE, KEYCTL_READ); its number is not the same everywhere. */
export const keyctlInto: (nr: number, operation: 6 | 11, key: number, into: Memory, bytes: number) => number =
  libc.func('syscall', 'long', ['long', 'int', 'int', 'void *', 'size_t']);
/** KEYCTL_LINK. */
export const keyctlLink: (nr: number, operation: 8, key: number, keyring: number) => number = libc.func(
  'syscall',
  'long',
  ['long', 'int', 'int', 'int'],
);
/** KEYCTL_SEARCH. */
export const keyctlSearch: (
  nr: number,
  operation: 10,
  keyring: number,
  type: string,
  description: string,
  destination: 0,
) => number = libc.func('syscall', 'long', ['long', 'int', 'int', 'str', 'str', 'int']);
/** KEYCTL_PKEY_QUERY; `passphrase` is reserved. */
export const keyctlQuery: (
  nr: number,
  operation: 24,
  key: number,
  passphrase: 0,
  info: string,
  into: Memory,
) => number = libc.func('syscall', 'long', ['long', 'int', 'int', 'ulong', 'str', 'void *']);
/** KEYCTL_PKEY_VERIFY. */
export const keyctlVerify: (
  nr: number,
  operation: 28,
  parameters: Memory,
  info: string,
  hashed: Memory,
  signature: Memory,
) => number = libc.func('syscall', 'long', ['long', 'int', 'void *', 'str', 'void *', 'void *']);
export const exitProcess: (code: number) => void = libc.func('_exit', 'void', ['int']);

const sleepAddress = koffi.address(libc.symbol('sleep'));
const clone: (code: bigint, stackTop: bigint, flags: number, argument: number) => number = libc.func(
  'clone',
  'int',
  ['uintptr_t', 'uintptr_t', 'int', 'uintptr_t'],
);

/**
 * Starts a child that does nothing but wait to be killed, in new namespaces by clone(2)'s `flags`. Its code is libc's own
 * sleep(3): JavaScript never runs in it, so it is safe in a process with threads. Where this process is killed
 * meanwhile, it ends by itself after `seconds`. Returns its pid, or -1.
 */
export function cloneIdleChild(flags: number, seconds: number): number {
  const stack = allocate(64 * 1024);
  const top = (addressOf(stack) + BigInt(stack.length)) & ~15n;
  return clone(sleepAddress, top, flags, seconds);
}

// Readiness

/** Which readiness is asked for, or has come. */
export interface PollEvents {
  readable: boolean;
  writable: boolean;
}

/** A poll of one descriptor on Node's own event loop. */
export interface Poll {
  /** Changes what is asked for. */
  restart(events: PollEvents): void;
  close(): void;
}

/**
 * Polls `fd`, which must be pollable (a regular file is not), not be polled already, and stay open until close() of
 * the result: anything else ends the process within libuv or koffi. `callback` runs outside Node's callback scope:
 * neither microtasks nor ticks run after it.
 */
export function poll(fd: number, events: PollEvents, callback: (events: PollEvents) => void): Poll {
  // The package declares the callback with the events alone, and passes libuv's status (0 or a negative errno) first.
  const listener = (...parameters: unknown[]): void => {
    const [status, came] = parameters as [number, PollEvents];
    // An error is for the next call on the descriptor to say: everything counts as ready.
    callback(status < 0 ? { readable: true, writable: true } : came);
  };
  const handle = koffi.node.poll(fd, events, listener);
  return {
    restart: (changed) => {
      handle.start(changed, listener);
    },
    close: () => {
      handle.stop();
      handle.close();
    },
  };
}

// Structs are written by offset into preallocated buffers, which is faster than koffi's own. Here it is checked
// once that this machine's layout is the one those offsets were taken from.

const layouts: readonly (readonly [string, number, Record<string, string>])[] = [
  ['iovec', 16, { base: 'void *', length: 'size_t' }],
  [
    'msghdr',
    56,
    {
      name: 'void *',
      nameLength: 'uint32',
      iov: 'void *',
      iovLength: 'size_t',
      control: 'void *',
      controlLength: 'size_t',
      flags: 'int',
    },
  ],
  ['cmsghdr', 16, { length: 'size_t', level: 'int', type: 'int' }],
  ['mount_attr', 32, { set: 'uint64', clear: 'uint64', propagation: 'uint64', userNamespaceFd: 'uint64' }],
  ['open_how', 24, { flags: 'uint64', mode: 'uint64', resolve: 'uint64' }],
  ['rlimit', 16, { current: 'ulong', maximum: 'ulong' }],
  ['ucred', 12, { pid: 'int', uid: 'uint32', gid: 'uint32' }],
];
for (const [name, bytes, members] of layouts) {
  const size = koffi.sizeof(koffi.struct(members));
  if (size !== bytes) throw new Error(`struct ${name} has ${size} bytes here, not ${bytes}`);
}
