import { blockSize, demand, sizeInBytes, textField, uuidField } from './fields.ts';
import type { Superblock } from './superblock.ts';

// struct btrfs_super_block of include/uapi/linux/btrfs_tree.h; the first copy.
const at = (field: number): number => 0x1_0000 + field;

/** The superblock of btrfs on a single device. Throws SuperblockInvalid. */
export function readBtrfs(head: DataView): Omit<Superblock, 'fileSystem'> {
  demand(head.getBigUint64(at(64), true) === 0x4d5f_5366_5248_425fn, 'there is no btrfs superblock');
  // The kernel would look for the others among all block devices that it has seen, which nobody signed.
  const devices = head.getBigUint64(at(136), true);
  demand(devices === 1n, `it is spread over ${devices} devices, and an image is one`);
  return {
    blockBytes: blockSize(head.getUint32(at(144), true), 4096, 65_536),
    bytes: sizeInBytes(head.getBigUint64(at(112), true), 1),
    label: textField(head, at(299), 256),
    uuid: uuidField(head, at(32)),
    compression: undefined,
    dirty: head.getBigUint64(at(96), true) !== 0n,
  };
}
