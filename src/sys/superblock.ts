import { statfsSync } from 'node:fs';
import { lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';
import { fstat } from './file.ts';
import { descriptorPath } from './path.ts';

/** Which superblock one is, as far as that can be told when nothing refers to it. */
export interface Superblock {
  /** Its device number, which no other has while it lives. */
  readonly device: number;
  /** f_ffree of statfs(2): EROFS says 2^64 - 1 less its inodes, overlayfs what its layer says, others something else. */
  readonly freeInodes: bigint;
}

/** The number of ustat(2), fs/statfs.c; arm64 and all later architectures are without it. */
const ustatNumbers: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 136 };
/** struct ustat: f_tfree (int), f_tinode (unsigned long), 12 bytes of names. */
const status = ffi.allocate(32);
const freeInodesOffset = 8;

/** The superblock of the mount whose root folder `mount` is. Throws SyscallError. */
export function superblockOf(mount: number): Superblock {
  const { ffree } = statfsSync(descriptorPath(mount), { bigint: true });
  // overlayfs gives folders the device number of its superblock, whatever it gives files.
  return { device: Number(fstat(mount).dev), freeInodes: BigInt.asUintN(64, ffree) };
}

/**
 * Whether the superblock still lives: wherever it is mounted, and also where nothing but a descriptor, or one in a
 * message that nobody has read, keeps it. True also where another has its number by now and looks the same. It may wait: for
 * a FUSE server that has the number now. Throws SyscallError, ENOSYS where the kernel cannot tell.
 */
export function isAlive({ device, freeInodes }: Superblock): boolean {
  const number = ustatNumbers[process.arch];
  if (number === undefined) throw new SyscallError('ustat', 'ENOSYS');
  if (ffi.ustat(number, device, status) === 0) return status.readBigUInt64LE(freeInodesOffset) === freeInodes;
  const code = lastErrnoName();
  if (code === 'EINVAL') return false;
  throw new SyscallError('ustat', code);
}

/** Whether the kernel tells. */
export function tellsSuperblocks(): boolean {
  const number = ustatNumbers[process.arch];
  // 0:0 is no superblock's.
  return number !== undefined && ffi.ustat(number, 0, status) < 0 && lastErrnoName() === 'EINVAL';
}
