import { endianness } from 'node:os';

import { check, lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';

// sendmsg(2) and recvmsg(2) with SCM_RIGHTS. Every thread has one set of structs, filled in anew for each call:
// the calls are synchronous, so nothing else can use them in between.

if (endianness() !== 'LE') throw new Error('structs are laid out for little-endian machines');

/** The most descriptors that the kernel passes with one message (SCM_MAX_FD, unix(7)). */
const descriptorsPerMessageMax = 253;

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_PEEK = 0x2;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

// Offsets in struct msghdr and struct cmsghdr; ffi.ts asserts their sizes.
const headerBytes = 56;
const controlHeaderBytes = 16;
const at = { iov: 16, iovLength: 24, control: 32, controlLength: 40, flags: 48 };
// Room for one full SCM_RIGHTS message, and for another kind of message that a socket option may add.
const controlBytesMax = controlHeaderBytes + descriptorsPerMessageMax * 4 + 4 + 64;

/** A msghdr with its iovec and control buffer. */
class Message {
  readonly header: Buffer = ffi.allocate(headerBytes);
  readonly control: Buffer = ffi.allocate(controlBytesMax);
  readonly #vector: Buffer = ffi.allocate(16);
  // Kept to spare asking for its address again, and so that it lives as long as the struct points to it.
  #bytes: Uint8Array | undefined;

  constructor() {
    this.header.writeBigUInt64LE(ffi.addressOf(this.#vector), at.iov);
    this.header.writeUInt32LE(1, at.iovLength);
    this.header.writeBigUInt64LE(ffi.addressOf(this.control), at.control);
  }

  prepare(bytes: Uint8Array, length: number, controlLength: number): void {
    if (this.#bytes !== bytes) {
      this.#vector.writeBigUInt64LE(ffi.addressOf(bytes), 0);
      this.#bytes = bytes;
    }
    this.#vector.writeUInt32LE(length, 8);
    this.header.writeUInt32LE(controlLength, at.controlLength);
    this.header.writeInt32LE(0, at.flags);
  }

  release(): void {
    this.#bytes = undefined;
  }
}

const incoming = new Message();
const outgoing = new Message();

/** What a read from a socket brought. `fds` belong to the caller, are close-on-exec, and are few: see above. */
export type Received =
  | { kind: 'data'; bytes: number; fds: number[] }
  /** Descriptors were lost on the way (MSG_CTRUNC, for one at the limit of open files): what came cannot be trusted. */
  | { kind: 'truncated'; fds: number[] }
  | { kind: 'again' }
  | { kind: 'end' };

const again: Received = { kind: 'again' };
const end: Received = { kind: 'end' };

/**
 * Reads what has come on `fd` into `into` (not empty) without waiting. Throws SyscallError.
 */
export function receiveMessage(fd: number, into: Uint8Array): Received {
  return receive(fd, into, into.length);
}

/**
 * As receiveMessage, but reads no further than the first byte that is `last`: recvmsg(2) puts bytes that came without
 * descriptors in front of those that came with some, and only where a read ends with a message is it certain which
 * message the descriptors belong to.
 */
export function receiveThrough(fd: number, into: Uint8Array, last: number): Received {
  incoming.prepare(into, into.length, 0);
  const bytes = ffi.recvmsg(fd, incoming.header, MSG_DONTWAIT | MSG_PEEK);
  if (bytes < 0) return nothing();
  const at = into.subarray(0, bytes).indexOf(last);
  // Where nothing is there to be looked at, the stream has ended.
  return receive(fd, into, at === -1 ? Math.max(bytes, 1) : at + 1);
}

const forgotten = ffi.allocate(64 * 1024);
const waiting = ffi.allocate(4);
const FIONREAD = 0x541b;

/**
 * Reads and forgets what waits in the socket `fd`, whose receiving side was shut down, as far as it came without
 * descriptors. Whether nothing is left: then closing `fd` closes nothing else, and does not wait for what a peer chose.
 */
export function drain(fd: number): boolean {
  for (;;) {
    incoming.prepare(forgotten, forgotten.length, 0);
    const bytes = ffi.recvmsg(fd, incoming.header, MSG_DONTWAIT | MSG_PEEK);
    if (bytes <= 0) break;
    // There is no room for descriptors, so that the kernel says whether there are any, and they stay where they are.
    if ((incoming.header.readInt32LE(at.flags) & MSG_CTRUNC) !== 0) return false;
    incoming.prepare(forgotten, bytes, 0);
    if (ffi.recvmsg(fd, incoming.header, MSG_DONTWAIT) <= 0) break;
  }
  // Bytes that were sent out of band are passed over above, and descriptors may have come with them.
  return ffi.ioctl(fd, FIONREAD, waiting) === 0 && waiting.readInt32LE(0) === 0;
}

function nothing(): Received {
  const code = lastErrnoName();
  if (code === 'EAGAIN' || code === 'EINTR') return again;
  throw new SyscallError('recvmsg', code);
}

function receive(fd: number, into: Uint8Array, length: number): Received {
  incoming.prepare(into, length, controlBytesMax);
  const bytes = ffi.recvmsg(fd, incoming.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (bytes < 0) return nothing();
  const fds = receivedDescriptors();
  if ((incoming.header.readInt32LE(at.flags) & MSG_CTRUNC) !== 0) {
    return { kind: 'truncated', fds };
  }
  if (bytes === 0 && fds.length === 0) return end;
  return { kind: 'data', bytes, fds };
}

function receivedDescriptors(): number[] {
  const length = incoming.header.readUInt32LE(at.controlLength);
  const fds: number[] = [];
  for (let offset = 0; offset + controlHeaderBytes <= length;) {
    const size = incoming.control.readUInt32LE(offset);
    if (size < controlHeaderBytes || offset + size > length) break;
    const level = incoming.control.readInt32LE(offset + 8);
    const type = incoming.control.readInt32LE(offset + 12);
    if (level === SOL_SOCKET && type === SCM_RIGHTS) {
      for (let each = offset + controlHeaderBytes; each + 4 <= offset + size; each += 4) {
        fds.push(incoming.control.readInt32LE(each));
      }
    }
    offset += (size + 7) & ~7;
  }
  return fds;
}

/**
 * Writes as much of `bytes` (not empty) as there is room for, without waiting unless told to, and `fds` along with the first
 * byte; the caller keeps its descriptors, and sends what is left without them. Answers how many bytes went, or `again`: then
 * nothing went. Throws SyscallError (EPIPE where the peer is gone), RangeError for more than 253 descriptors.
 */
export function sendMessage(
  fd: number,
  bytes: Uint8Array,
  fds: readonly number[] = [],
  patience: 'none' | 'wait' = 'none',
): number | 'again' {
  outgoing.prepare(bytes, bytes.length, fds.length === 0 ? 0 : writeDescriptors(fds));
  const flags = MSG_NOSIGNAL | (patience === 'wait' ? 0 : MSG_DONTWAIT);
  const sent = ffi.sendmsg(fd, outgoing.header, flags);
  if (sent < 0) {
    const code = lastErrnoName();
    outgoing.release();
    if (code === 'EAGAIN' || code === 'EINTR') return 'again';
    throw new SyscallError('sendmsg', code);
  }
  outgoing.release();
  return check('sendmsg', sent);
}

function writeDescriptors(fds: readonly number[]): number {
  if (fds.length > descriptorsPerMessageMax) {
    throw new RangeError(
      `${fds.length} descriptors in one message, and the kernel takes ${descriptorsPerMessageMax}`,
    );
  }
  const length = controlHeaderBytes + fds.length * 4;
  outgoing.control.writeUInt32LE(length, 0);
  outgoing.control.writeUInt32LE(0, 4);
  outgoing.control.writeInt32LE(SOL_SOCKET, 8);
  outgoing.control.writeInt32LE(SCM_RIGHTS, 12);
  fds.forEach((each, index) => outgoing.control.writeInt32LE(each, controlHeaderBytes + index * 4));
  return (length + 7) & ~7;
}
