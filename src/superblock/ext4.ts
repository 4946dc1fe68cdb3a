import { blockSize, demand, sizeInBytes, textField, uuidField } from './fields.ts';
import type { Superblock } from './superblock.ts';

// struct ext4_super_block of fs/ext4/ext4.h.
const at = (field: number): number => 1024 + field;
const incompatRecover = 0x4;
const incompatJournalDevice = 0x8;
const incompat64Bit = 0x80;

/** The superblock of ext4, or of ext2 and ext3, which the kernel's ext4 mounts too. Throws SuperblockInvalid. */
export function readExt4(head: DataView): Omit<Superblock, 'fileSystem'> {
  demand(head.getUint16(at(56), true) === 0xef53, 'there is no ext4 superblock');
  const incompat = head.getUint32(at(96), true);
  demand((incompat & incompatJournalDevice) === 0, 'it is the journal of another ext4, and holds no files');
  const low = BigInt(head.getUint32(at(4), true));
  const high = (incompat & incompat64Bit) === 0 ? 0n : BigInt(head.getUint32(at(336), true));
  const logBlock = head.getUint32(at(24), true);
  const blockBytes = blockSize(logBlock > 6 ? 0 : 1024 << logBlock, 1024, 65_536);
  return {
    blockBytes,
    bytes: sizeInBytes((high << 32n) | low, blockBytes),
    label: textField(head, at(120), 16),
    uuid: uuidField(head, at(104)),
    compression: undefined,
    dirty: (incompat & incompatRecover) !== 0,
  };
}
