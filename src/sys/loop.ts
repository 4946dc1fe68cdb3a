import type { ByteRange } from '../mount/byte-range.ts';
import { check, isSyscallError, lastErrnoName, SyscallError } from './errno.ts';
import type { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { openFile, reopen } from './file.ts';

// Loop devices (loop(4)); requests, flags and struct loop_config are those of linux/loop.h.
const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const sectorBytes = 512;
const configBytes = 304;
const offsetOffset = 32;
const sizeLimitOffset = 40;
const flagsOffset = 60;

/**
 * How often a device is asked for: between the question and the answer another process may have taken it, and a machine
 * that sets up many at once has that many to lose against.
 */
const attempts = 256;

/**
 * A loop device that shows the file of `file`, or the `range` of it, read-only and without looking for partitions
 * (LOOP_CONFIGURE, 5.8). The kernel frees it when its last user goes (LO_FLAGS_AUTOCLEAR): this descriptor, which is to be
 * closed once the mount exists, or the mount. It reads the file through the page cache, not by direct I/O (LO_FLAGS_DIRECT_IO):
 * that halves what a large file of an ext4 takes there (500 MiB read: 500 instead of 1018 MiB, as fast or faster), and a tree of
 * 2,000 small files takes four times as long to be read; for squashfs it makes no difference (Linux 6.18). The file is opened anew for it, so that a lease on `file` ends with `file`.
 * Throws SyscallError: ENOENT or ENXIO where there are no loop devices; RangeError for a range that does not begin and
 * end with a sector.
 */
export function attachLoop(file: number, range?: ByteRange): OwnedFd {
  if (range !== undefined) checkRange(range);
  using backing = reopen(file, { nonBlocking: true });
  using control = openFile('/dev/loop-control', { access: 'read-write' });
  for (let attempt = 1; ; attempt++) {
    const taken = tryNext(control.number, backing.number, range);
    if (taken instanceof SyscallError) {
      if (attempt < attempts) continue;
      throw taken;
    }
    return taken;
  }
}

/** The next free device, configured, or why somebody else has it now. */
function tryNext(control: number, backing: number, range: ByteRange | undefined): OwnedFd | SyscallError {
  const number = check('ioctl', ffi.ioctlNumber(control, LOOP_CTL_GET_FREE, 0), 'LOOP_CTL_GET_FREE');
  const path = `/dev/loop${number}`;
  try {
    using device = openFile(path);
    configure(device.number, backing, range, path);
    return device.moved();
  } catch (error) {
    // ENXIO: it was removed meanwhile. ENOENT is not retried: without devtmpfs a name never comes.
    if (isSyscallError(error, 'EBUSY', 'ENXIO')) return error;
    throw error;
  }
}

function configure(device: number, backing: number, range: ByteRange | undefined, path: string): void {
  const config = ffi.allocate(configBytes);
  config.writeUInt32LE(backing, 0);
  if (range !== undefined) {
    config.writeBigUInt64LE(BigInt(range.offset), offsetOffset);
    config.writeBigUInt64LE(BigInt(range.bytes), sizeLimitOffset);
  }
  config.writeUInt32LE(LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR, flagsOffset);
  if (ffi.ioctl(device, LOOP_CONFIGURE, config) === 0) return;
  throw new SyscallError('ioctl', lastErrnoName(), `LOOP_CONFIGURE of ${path}`);
}

/** The kernel would cut a range to whole sectors without a word, and take a limit of 0 for none. */
function checkRange({ offset, bytes }: ByteRange): void {
  const whole = [offset, bytes].every((count) => Number.isSafeInteger(count) && count % sectorBytes === 0);
  if (whole && offset >= 0 && bytes > 0) return;
  throw new RangeError(`a loop device cannot show ${bytes} bytes from ${offset}`);
}
