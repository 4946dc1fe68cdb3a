import { readFileSync, writeFileSync } from 'node:fs';

import { check } from './errno.ts';
import type { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { openFile } from './file.ts';

const CLONE_NEWNS = 0x2_0000;
const CLONE_NEWUSER = 0x1000_0000;
const CLONE_FILES = 0x400;
const SIGCHLD = 17;
const SIGKILL = 9;
/** An orphan of a process that was killed holds its open files, the lock on the state folder among them, for no longer. */
const secondsMax = 5;

/** A user namespace, and a mount namespace that belongs to it and is a slave of the one it was made in. */
export interface MadeNamespaces {
  readonly user: OwnedFd;
  readonly mount: OwnedFd;
}

/**
 * Makes namespaces that no process lives in. A child makes them, because a process with threads cannot unshare its user
 * namespace; it runs nothing but sleep(3), and is killed as soon as its namespaces are open here. Every ID means the
 * same within as outside. Throws SyscallError: ENOSPC where user.max_user_namespaces does not allow it.
 */
export function makeNamespaces(): MadeNamespaces {
  const pid = check(
    'clone',
    ffi.cloneIdleChild(CLONE_NEWUSER | CLONE_NEWNS | CLONE_FILES | SIGCHLD, secondsMax),
    'a user and a mount namespace, which user.max_user_namespaces and user.max_mnt_namespaces have to allow',
  );
  try {
    writeFileSync(`/proc/${pid}/uid_map`, sameIds('uid_map'));
    writeFileSync(`/proc/${pid}/gid_map`, sameIds('gid_map'));
    using user = openFile(`/proc/${pid}/ns/user`);
    using mount = openFile(`/proc/${pid}/ns/mnt`);
    return { user: user.moved(), mount: mount.moved() };
  } finally {
    ffi.kill(pid, SIGKILL);
    ffi.waitpid(pid, null, 0);
  }
}

// Maps every ID that this process's own user namespace has to itself (user_namespaces(7)).
function sameIds(map: 'uid_map' | 'gid_map'): string {
  const lines = readFileSync(`/proc/self/${map}`, 'latin1').trim().split('\n');
  return lines
    .map((line) => {
      const [inside = '', , count = ''] = line.trim().split(/\s+/);
      return `${inside} ${inside} ${count}\n`;
    })
    .join('');
}
