import { blockSize, demand, sizeInBytes } from './fields.ts';
import type { Superblock } from './superblock.ts';

// struct squashfs_super_block of fs/squashfs/squashfs_fs.h.
const compressions = ['unknown', 'zlib', 'lzma', 'lzo', 'xz', 'lz4', 'zstd'];

/** The superblock of squashfs 4. Throws SuperblockInvalid. */
export function readSquashfs(head: DataView): Omit<Superblock, 'fileSystem'> {
  demand(head.getUint32(0, true) === 0x7371_7368, 'there is no squashfs superblock');
  const version = head.getUint16(28, true);
  demand(version === 4, `squashfs ${version} is none that the kernel reads`);
  return {
    blockBytes: blockSize(head.getUint32(12, true), 4096, 1_048_576),
    bytes: sizeInBytes(head.getBigUint64(40, true), 1),
    label: undefined,
    uuid: undefined,
    compression: compressions[head.getUint16(20, true)] ?? 'unknown',
    dirty: undefined,
  };
}
