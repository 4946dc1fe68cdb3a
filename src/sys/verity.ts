import { foreignForm, parseVerityDescriptor, type VerityForm } from '../verity/descriptor.ts';
import { lastErrnoName, SyscallError } from './errno.ts';
import * as ffi from './ffi.ts';

// fs-verity (Documentation/filesystems/fsverity.rst); the requests are those of linux/fsverity.h.
const FS_IOC_ENABLE_VERITY = 0x4080_6685;
const FS_IOC_MEASURE_VERITY = 0xc004_6686;
const FS_IOC_READ_VERITY_METADATA = 0xc028_6687;
const FS_VERITY_METADATA_TYPE_DESCRIPTOR = 2;
const FS_VERITY_METADATA_TYPE_SIGNATURE = 3;
/** FS_VERITY_MAX_SIGNATURE_SIZE. */
const signatureBytesMax = 16_128;
const blockBytes = 4096;
const digestBytesMax = 64;

/** A file's fs-verity digest as its filesystem says. */
export interface MeasuredVerity {
  /** FS_VERITY_HASH_ALG_*: 1 is SHA-256, 2 is SHA-512. */
  readonly algorithm: number;
  readonly digest: Uint8Array;
}

const measured = ffi.allocate(4 + digestBytesMax);

/**
 * The fs-verity digest of the file of `fd`, or undefined where it has none. Block size and salt are not told: the digest
 * commits to them, and foreignVerity() may know them. Only a filesystem of an allowlist is to be believed: a FUSE server answers whatever it likes. Throws
 * SyscallError.
 */
export function measureVerity(fd: number): MeasuredVerity | undefined {
  measured.writeUInt16LE(0, 0);
  measured.writeUInt16LE(digestBytesMax, 2);
  if (ffi.ioctl(fd, FS_IOC_MEASURE_VERITY, measured) < 0) {
    const code = lastErrnoName();
    if (code === 'ENODATA' || code === 'ENOTTY' || code === 'EOPNOTSUPP') return undefined;
    throw new SyscallError('ioctl', code, 'FS_IOC_MEASURE_VERITY');
  }
  const bytes = Math.min(measured.readUInt16LE(2), digestBytesMax);
  return { algorithm: measured.readUInt16LE(0), digest: new Uint8Array(measured.subarray(4, 4 + bytes)) };
}

const readArgument = ffi.allocate(40);
const descriptor = ffi.allocate(256);

/**
 * How the fs-verity digest of the file of `fd` is made, from its descriptor (FS_IOC_READ_VERITY_METADATA). Throws SyscallError.
 *
 * COMPAT(5.12): undefined where the kernel or the filesystem does not tell.
 */
function verityForm(fd: number): VerityForm | undefined {
  readArgument.writeBigUInt64LE(BigInt(FS_VERITY_METADATA_TYPE_DESCRIPTOR), 0);
  readArgument.writeBigUInt64LE(0n, 8);
  readArgument.writeBigUInt64LE(BigInt(descriptor.length), 16);
  readArgument.writeBigUInt64LE(ffi.addressOf(descriptor), 24);
  const bytes = ffi.ioctl(fd, FS_IOC_READ_VERITY_METADATA, readArgument);
  if (bytes >= 0) return parseVerityDescriptor(descriptor.subarray(0, bytes));
  const code = lastErrnoName();
  if (code === 'ENOTTY' || code === 'EOPNOTSUPP' || code === 'ENODATA') return undefined;
  throw new SyscallError('ioctl', code, 'FS_IOC_READ_VERITY_METADATA');
}

/**
 * Why `measured`, the digest of the file of `fd`, cannot be an image's or an object's, in words; undefined where nothing
 * speaks against it. Throws SyscallError.
 */
export function foreignVerity(fd: number, { algorithm }: MeasuredVerity): string | undefined {
  return foreignForm(verityForm(fd) ?? { algorithm, blockBytes, saltBytes: 0 });
}

/**
 * Enables fs-verity (SHA-256, 4096-byte blocks, no salt) on the file of `fd`, which is open for reading alone, and has
 * it on afterwards: true; false where the kernel or the filesystem has no fs-verity. Throws SyscallError: ETXTBSY while
 * somebody has the file open for writing.
 */
export function enableVerity(fd: number): boolean {
  const argument = ffi.allocate(128);
  argument.writeUInt32LE(1, 0);
  argument.writeUInt32LE(1, 4);
  argument.writeUInt32LE(blockBytes, 8);
  if (ffi.ioctl(fd, FS_IOC_ENABLE_VERITY, argument) === 0) return true;
  const code = lastErrnoName();
  if (code === 'EEXIST') return true;
  if (code === 'ENOTTY' || code === 'EOPNOTSUPP') return false;
  throw new SyscallError('ioctl', code, 'FS_IOC_ENABLE_VERITY');
}

/**
 * The signature with which fs-verity was enabled on the file of `fd`, or undefined where there is none, or none that can be
 * asked for (before Linux 5.12). Nobody has checked it: the kernel does so only where its own keyring `.fs-verity` holds keys.
 * Throws SyscallError.
 */
export function readVeritySignature(fd: number): Uint8Array | undefined {
  const signature = ffi.allocate(signatureBytesMax);
  const argument = ffi.allocate(40);
  argument.writeBigUInt64LE(BigInt(FS_VERITY_METADATA_TYPE_SIGNATURE), 0);
  for (let bytes = 0; ;) {
    argument.writeBigUInt64LE(BigInt(bytes), 8);
    argument.writeBigUInt64LE(BigInt(signatureBytesMax - bytes), 16);
    argument.writeBigUInt64LE(ffi.addressOf(signature) + BigInt(bytes), 24);
    const read = ffi.ioctl(fd, FS_IOC_READ_VERITY_METADATA, argument);
    if (read < 0) {
      const code = lastErrnoName();
      if (code === 'ENODATA' || code === 'ENOTTY' || code === 'EOPNOTSUPP') return undefined;
      throw new SyscallError('ioctl', code, 'FS_IOC_READ_VERITY_METADATA');
    }
    bytes += read;
    if (read === 0 || bytes === signatureBytesMax) return new Uint8Array(signature.subarray(0, bytes));
  }
}
