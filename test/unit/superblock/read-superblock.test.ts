import { describe, expect, test } from 'vitest';
import { headBytes, recogniseFileSystem } from '../../../src/superblock/recognise.ts';
import { SuperblockInvalid } from '../../../src/superblock/superblock-invalid.ts';
import { demandSuperblock, readSuperblock } from '../../../src/superblock/read-superblock.ts';

const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const uuidText = '00112233-4455-6677-8899-aabbccddeeff';

const empty = (): Buffer => Buffer.alloc(headBytes);

function squashfs(): Buffer {
  const head = empty();
  head.writeUInt32LE(0x7371_7368, 0);
  head.writeUInt32LE(131_072, 12);
  head.writeUInt16LE(6, 20);
  head.writeUInt16LE(4, 28);
  head.writeBigUInt64LE(40_000n, 40);
  return head;
}

function ext4(): Buffer {
  const head = empty();
  head.writeUInt32LE(4096, 1024 + 4);
  head.writeUInt32LE(2, 1024 + 24);
  head.writeUInt16LE(0xef53, 1024 + 56);
  uuid.copy(head, 1024 + 104);
  head.write('root', 1024 + 120);
  return head;
}

function xfs(): Buffer {
  const head = empty();
  head.write('XFSB', 0);
  head.writeUInt32BE(4096, 4);
  head.writeBigUInt64BE(1000n, 8);
  uuid.copy(head, 32);
  head.writeBigUInt64BE(7n, 48);
  head.write('twelve chars', 108);
  return head;
}

function btrfs(): Buffer {
  const head = empty();
  uuid.copy(head, 0x1_0000 + 32);
  head.write('_BHRfS_M', 0x1_0000 + 64);
  head.writeBigUInt64LE(1_000_000n, 0x1_0000 + 112);
  head.writeBigUInt64LE(1n, 0x1_0000 + 136);
  head.writeUInt32LE(4096, 0x1_0000 + 144);
  return head;
}

const heads = { squashfs: squashfs(), ext4: ext4(), xfs: xfs(), btrfs: btrfs() };
const names = Object.keys(heads) as (keyof typeof heads)[];
const plenty = 2 ** 40;

describe('a superblock', () => {
  test('of squashfs', () => {
    expect(readSuperblock('squashfs', squashfs(), plenty)).toEqual({
      fileSystem: 'squashfs',
      blockBytes: 131_072,
      bytes: 40_000,
      label: undefined,
      uuid: undefined,
      compression: 'zstd',
      dirty: undefined,
    });
  });

  test('of ext4, with its label and UUID, and whether its journal is to be replayed', () => {
    const head = ext4();
    const clean = readSuperblock('ext4', head, plenty);
    expect(clean).toMatchObject({ blockBytes: 4096, bytes: 4096 * 4096, label: 'root', uuid: uuidText });
    expect(clean.dirty).toBe(false);
    head.writeUInt32LE(0x4 | 0x80, 1024 + 96);
    head.writeUInt32LE(1, 1024 + 336);
    const dirty = readSuperblock('ext4', head, 2 ** 46);
    expect(dirty).toMatchObject({ dirty: true, bytes: (2 ** 32 + 4096) * 4096 });
  });

  test('of xfs, which is big-endian, and a label that fills its field', () => {
    expect(readSuperblock('xfs', xfs(), plenty)).toMatchObject({
      bytes: 4_096_000,
      label: 'twelve chars',
      uuid: uuidText,
    });
  });

  test('of btrfs', () => {
    expect(readSuperblock('btrfs', btrfs(), plenty)).toMatchObject({
      blockBytes: 4096,
      bytes: 1_000_000,
      uuid: uuidText,
      dirty: false,
    });
  });

  test.each(names.flatMap((is) => names.filter((said) => said !== is).map((said) => [is, said] as const)))(
    'an image that is %s is no %s',
    (is, said) => {
      expect(recogniseFileSystem(heads[is])).toBe(is);
      expect(() => demandSuperblock(said, heads[is], plenty)).toThrow(
        new SuperblockInvalid(`there is no ${said} superblock: it looks like ${is}`),
      );
    },
  );

  test.each(names)('%s that ends early is refused', (name) => {
    expect(() => readSuperblock(name, heads[name], 20_000)).toThrow(/the image has 20000 bytes/);
    expect(() => readSuperblock(name, new Uint8Array(0), 0)).toThrow(`there is no ${name} superblock`);
  });

  const hostile: readonly (readonly [string, keyof typeof heads, (head: Buffer) => unknown, RegExp])[] = [
    ['a journal alone', 'ext4', (head) => head.writeUInt32LE(8, 1024 + 96), /journal of another ext4/],
    ['blocks of 2^40 bytes', 'ext4', (head) => head.writeUInt32LE(30, 1024 + 24), /blocks of/],
    ['a log elsewhere', 'xfs', (head) => head.writeBigUInt64BE(0n, 48), /log is on another device/],
    ['a realtime device', 'xfs', (head) => head.writeBigUInt64BE(1n, 16), /realtime/],
    ['blocks of 3 bytes', 'xfs', (head) => head.writeUInt32BE(3, 4), /blocks of 3 bytes/],
    ['two devices', 'btrfs', (head) => head.writeBigUInt64LE(2n, 0x1_0000 + 136), /over 2 devices/],
    ['squashfs 3', 'squashfs', (head) => head.writeUInt16LE(3, 28), /squashfs 3/],
    ['a size beyond all', 'btrfs', (head) => head.writeBigUInt64LE(1n << 63n, 0x1_0000 + 112), /beyond any/],
  ];
  test.each(hostile)('%s is refused by name', (_what, name, edit, reason) => {
    const head = Buffer.from(heads[name]);
    edit(head);
    expect(() => readSuperblock(name, head, Number.MAX_SAFE_INTEGER)).toThrow(reason);
  });
});
