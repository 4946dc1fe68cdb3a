import type { OwnedFd } from '../../sys/fd.ts';
import { drain } from '../../sys/message.ts';
import { shutdownSocket } from '../../sys/socket.ts';
import type { Owner } from '../callers/owner.ts';

/**
 * Ends a connection and closes its socket. The peer notices the shutdown. Closing a socket closes the descriptors that still
 * wait in it, and a peer decides how long that takes: where there are any, a closer does it. All others are closed
 * at once, so that a user whose closer hangs cannot have sockets wait for it without end.
 */
export function giveUpSocket(
  socket: OwnedFd,
  owner: Owner,
  closing: { close(fds: readonly number[], owner: Owner): void },
): void {
  shutdownSocket(socket.number, 'both');
  if (drain(socket.number)) socket.close();
  else closing.close([socket.take()], owner);
}
