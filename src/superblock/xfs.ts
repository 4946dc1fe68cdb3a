import { blockSize, demand, sizeInBytes, textField, uuidField } from './fields.ts';
import type { Superblock } from './superblock.ts';

/**
 * The superblock of xfs: struct xfs_dsb of fs/xfs/libxfs/xfs_format.h, big-endian. Whether its log is clean is said in the
 * log alone. Throws SuperblockInvalid.
 */
export function readXfs(head: DataView): Omit<Superblock, 'fileSystem'> {
  demand(head.getUint32(0) === 0x5846_5342, 'there is no xfs superblock');
  // What a second device holds was signed by nobody.
  demand(head.getBigUint64(48) !== 0n, 'its log is on another device');
  demand(head.getBigUint64(16) === 0n, 'it has a realtime section, which is on another device');
  const blockBytes = blockSize(head.getUint32(4), 512, 65_536);
  return {
    blockBytes,
    bytes: sizeInBytes(head.getBigUint64(8), blockBytes),
    label: textField(head, 108, 12),
    uuid: uuidField(head, 32),
    compression: undefined,
    dirty: undefined,
  };
}
