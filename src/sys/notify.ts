import { check } from './errno.ts';
import { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { sendMessage, unixAddress } from './socket.ts';

/**
 * Sends `text` (such as `READY=1`) to the service manager, sd_notify(3), and `fds` along with it (`FDSTORE=1`): a datagram to the
 * socket `socketPath`, which is what NOTIFY_SOCKET says; one with a leading `@` is abstract. Answers false where there is
 * none. Throws SyscallError.
 */
export function notifyServiceManager(
  text: string,
  socketPath: string | undefined,
  fds: readonly number[] = [],
): boolean {
  if (socketPath === undefined || socketPath === '') return false;
  const SOCK_DGRAM = 2;
  const SOCK_CLOEXEC = 0o2000000;
  using socket = new OwnedFd(check('socket', ffi.socket(1, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  const address = unixAddress(socketPath);
  const to = `NOTIFY_SOCKET ${socketPath}`;
  check('connect', ffi.connect(socket.number, address, address.length), to);
  // A datagram goes as a whole, or after the wait that the manager's full queue makes necessary.
  while (sendMessage(socket.number, Buffer.from(text), fds, 'wait') === 'again');
  return true;
}

/** The monotonic clock in microseconds, as MONOTONIC_USEC= of sd_notify(3) wants it beside RELOADING=1. */
export function monotonicMicroseconds(): bigint {
  // process.hrtime reads CLOCK_MONOTONIC.
  return process.hrtime.bigint() / 1000n;
}
