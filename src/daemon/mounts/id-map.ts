import { createHash } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { BadFileDescriptor } from '../../api/mount-delegation.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { openFile } from '../../sys/file.ts';
import { descriptorPath } from '../../sys/path.ts';
import {
  idMappingsOf,
  isWithinUserNamespace,
  ownerOfUserNamespace,
  sameNamespace,
} from '../../sys/user-namespace.ts';
import type { IdMapRequest } from '../calls/request.ts';

/** What must be known of the caller to tell which user namespaces it may name. */
export interface IdMapCaller {
  readonly caller: { readonly uid: number; readonly root: boolean };
  readonly initialNamespace: boolean;
  readonly pid: number;
  readonly pidfd: OwnedFd;
  readonly userNamespace: OwnedFd;
}

/**
 * The user namespace whose IDs the mount is to show, as a borrowed descriptor, or undefined where the IDs stay as they
 * are. Throws BadFileDescriptor for what is no user namespace, the initial one, or one that is not the caller's.
 */
export function resolveIdMap(request: IdMapRequest, peer: IdMapCaller): number | undefined {
  switch (request.kind) {
    case 'none':
      return undefined;
    case 'caller':
      // Seen from the initial user namespace, IDs are what they are.
      return peer.initialNamespace ? undefined : peer.userNamespace.number;
    case 'userNamespace':
      checkUserNamespace(request.fd, request.field, peer);
      return request.fd;
  }
}

/** What was read of callers, as long as they are connected. */
const known = new WeakMap<OwnedFd, string>();

/**
 * What the ID mapping that is asked for holds, as a short text: mappings with the same contents have the same one.
 * Undefined where it cannot be told: of a namespace only the processes in it show it, and of those the caller is known.
 */
export function idMapContents(request: IdMapRequest, peer: IdMapCaller): string | undefined {
  if (resolvesToNone(request, peer)) return 'none';
  if (request.kind === 'userNamespace' && !sameNamespace(request.fd, peer.userNamespace.number)) {
    return undefined;
  }
  const read = known.get(peer.userNamespace);
  if (read !== undefined) return read;
  const mappings = idMappingsOf(peer.pidfd.number, peer.pid, peer.userNamespace.number);
  if (mappings === undefined) return undefined;
  const contents = createHash('sha256').update(mappings).digest('base64');
  known.set(peer.userNamespace, contents);
  return contents;
}

function resolvesToNone(request: IdMapRequest, peer: IdMapCaller): boolean {
  return request.kind === 'none' || (request.kind === 'caller' && peer.initialNamespace);
}

function checkUserNamespace(fd: number, field: string, peer: IdMapCaller): void {
  // The name that the kernel itself gives; asking the file could mean asking a client's FUSE server.
  if (!/^user:\[\d+\]$/.test(readlinkSync(descriptorPath(fd)))) {
    throw new BadFileDescriptor({ field, reason: 'not a user namespace' });
  }
  using initial = openFile('/proc/self/ns/user');
  if (sameNamespace(fd, initial.number)) {
    throw new BadFileDescriptor({ field, reason: 'the initial user namespace, which maps nothing' });
  }
  if (!belongsTo(fd, peer)) {
    const reason = "neither the caller's user namespace nor one below it, nor one that the caller made";
    throw new BadFileDescriptor({ field, reason });
  }
}

function belongsTo(fd: number, peer: IdMapCaller): boolean {
  if (peer.caller.root) return true;
  // User 0 that is not root is that of a container: what root made is not that container's own.
  if (peer.caller.uid !== 0 && ownerOfUserNamespace(fd) === peer.caller.uid) return true;
  return !peer.initialNamespace && isWithinUserNamespace(peer.userNamespace.number, fd);
}
