import { chmodSync, lstatSync, renameSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { openFile } from './file.ts';
import { descriptorPath } from './path.ts';

export { receiveMessage, receiveThrough, sendMessage } from './message.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const streamFlags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
const addressPathBytesMax = 107;

/** Which halves of a connection shutdown(2) ends. */
export type ShutdownHow = 'read' | 'write' | 'both';
const howNumbers: Record<ShutdownHow, number> = { read: 0, write: 1, both: 2 };

/** struct sockaddr_un for a path, or for an abstract name written with a leading `@`. Throws ENAMETOOLONG. */
export function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.includes(0)) throw new TypeError('a socket path with a NUL in it');
  if (bytes.length > addressPathBytesMax) throw new SyscallError('connect', 'ENAMETOOLONG', path);
  const abstract = path.startsWith('@');
  const address = ffi.allocate(2 + bytes.length + (abstract ? 0 : 1));
  address.writeUInt16LE(AF_UNIX, 0);
  address.set(bytes, 2);
  if (abstract) address[2] = 0;
  return address;
}

// A path that is too long for the struct is reached through a descriptor of its folder.
function withAddress<Result>(path: string, use: (address: Buffer) => Result): Result {
  if (path.startsWith('@') || Buffer.byteLength(path) <= addressPathBytesMax) return use(unixAddress(path));
  using folder = openFile(dirname(path), { pathOnly: true, directory: true });
  return use(unixAddress(join(descriptorPath(folder.number), basename(path))));
}

/**
 * Listens on a Unix stream socket at `path`, which has `mode` from the moment that it can be found. A socket that
 * nobody serves any more is replaced, in one step (rename(2)). Throws SyscallError, EADDRINUSE where another serves it
 * or where `path` is something else than a socket.
 */
export function listenUnix(path: string, mode: number, backlog: number): OwnedFd {
  refuseIfServed(path);
  using socket = new OwnedFd(check('socket', ffi.socket(AF_UNIX, streamFlags, 0)));
  const temporary = `${path}.new`;
  removeIfThere(temporary);
  withAddress(temporary, (address) =>
    check('bind', ffi.bind(socket.number, address, address.length), temporary),
  );
  try {
    chmodSync(temporary, mode);
    check('listen', ffi.listen(socket.number, backlog), path);
    renameSync(temporary, path);
  } catch (error) {
    removeIfThere(temporary);
    throw error;
  }
  return socket.moved();
}

function refuseIfServed(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new SyscallError('bind', 'EADDRINUSE', `${path} is no socket`);
  try {
    connectUnix(path).close();
  } catch (error) {
    if (isSyscallError(error, 'ECONNREFUSED', 'ENOENT')) return;
    // A full backlog has somebody behind it, too.
    if (!isSyscallError(error, 'EAGAIN')) throw error;
  }
  throw new SyscallError('bind', 'EADDRINUSE', `another process serves ${path}`);
}

function removeIfThere(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}

const SOL_SOCKET = 1;
const SO_OOBINLINE = 10;
const one = ffi.allocate(4);
one.writeInt32LE(1);

/**
 * The next connection on the listening socket `fd`, non-blocking and close-on-exec; undefined where none waits (any
 * more). Bytes sent out of band (MSG_OOB) are bytes like others. Throws SyscallError, EMFILE at the limit of open files.
 */
export function acceptUnix(fd: number): OwnedFd | undefined {
  const accepted = ffi.accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted >= 0) {
    using socket = new OwnedFd(accepted);
    // Otherwise one would make the socket readable for ever without being there to be read, and with the descriptors
    // that came with it be dropped by some later read.
    check('setsockopt', ffi.setsockopt(accepted, SOL_SOCKET, SO_OOBINLINE, one, one.length), 'SO_OOBINLINE');
    return socket.moved();
  }
  const code = lastErrnoName();
  if (code === 'EAGAIN' || code === 'ECONNABORTED' || code === 'EINTR') return undefined;
  throw new SyscallError('accept4', code);
}

/**
 * A non-blocking connection to the stream socket at `path`, or at an abstract name written `@name`. Throws
 * SyscallError: ENOENT, EACCES, ECONNREFUSED, and EAGAIN where the server's backlog is full.
 */
export function connectUnix(path: string): OwnedFd {
  using socket = new OwnedFd(check('socket', ffi.socket(AF_UNIX, streamFlags, 0)));
  withAddress(path, (address) => check('connect', ffi.connect(socket.number, address, address.length), path));
  return socket.moved();
}

/** Two connected stream sockets, non-blocking and close-on-exec. */
export function socketPair(): [OwnedFd, OwnedFd] {
  const fds = ffi.allocate(8);
  check('socketpair', ffi.socketpair(AF_UNIX, streamFlags, 0, fds));
  return [new OwnedFd(fds.readInt32LE(0)), new OwnedFd(fds.readInt32LE(4))];
}

/** Ends one half of a connection, or both, for every process that holds it. A peer that is gone is no error. */
export function shutdownSocket(fd: number, how: ShutdownHow): void {
  if (ffi.shutdown(fd, howNumbers[how]) === 0) return;
  const code = lastErrnoName();
  if (code !== 'ENOTCONN') throw new SyscallError('shutdown', code);
}
