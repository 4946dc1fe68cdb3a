import { describe, expect, test } from 'vitest';
import { compareVersions } from '../../../src/ddi/compare-versions.ts';
import { DiskImageError } from '../../../src/ddi/errors.ts';
import { dissect } from '../../../src/ddi/dissect.ts';
import type { Partition } from '../../../src/ddi/gpt-entry.ts';
import { architectures, kindName, partitionKind } from '../../../src/ddi/partition-kinds.ts';
import { testUuid } from '../../support/disk-image.ts';

const types = {
  root: '4f68bce3-e8cd-4db1-96e7-fbcaf984b709',
  verity: '2c7357ed-ebd2-46d9-aec1-23d437ec2bf5',
  signature: '41092b05-9fc8-4523-994f-2def0408b176',
  usr: '8484680c-9521-48c6-9c11-b0720656f69e',
  root32: '44479540-f297-41b2-9af7-d131d5f0458a',
  verity32: 'd13c5d3b-b5d1-422a-b29f-9454fdc89d76',
  rootArm: 'b921b045-1df0-41c3-af44-4c6f280d3fae',
  esp: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  home: '933ac7e1-2eb4-4f13-b844-0e14e2aef915',
  unknown: testUuid(99),
};

/** Partitions of a table, one after another. */
function chosen(
  ...wanted: readonly (Partial<Partition> & { readonly is: keyof typeof types })[]
): Record<string, number> {
  const partitions = wanted.map(({ is, ...rest }, index) => ({
    number: index + 1,
    type: types[is],
    uuid: testUuid(index + 1),
    attributes: 0n,
    label: '',
    offset: 1024 * (index + 1),
    bytes: 1024,
    ...rest,
  }));
  const table = { sectorBytes: 512, diskUuid: testUuid(0), entriesOffset: 1024, partitions };
  return Object.fromEntries([...dissect(table, 'x86-64')].map(([kind, { number }]) => [kind, number]));
}

describe('what partitions are for', () => {
  test('types of every architecture are told apart', () => {
    expect(partitionKind(types.verity)).toEqual({ designator: 'root-verity', architecture: 'x86-64' });
    expect(partitionKind(types.home)).toEqual({ designator: 'home', architecture: undefined });
    expect(partitionKind(types.unknown)).toBeUndefined();
    expect(kindName({ designator: 'usr-verity-sig', architecture: 'arm64' })).toBe('usr-arm64-verity-sig');
    expect(architectures).toHaveLength(21);
  });

  test('by type alone, each kind once', () => {
    const all = chosen(
      { is: 'esp' },
      { is: 'unknown', label: 'root' },
      { is: 'root' },
      { is: 'verity' },
      { is: 'signature' },
      { is: 'usr' },
      { is: 'home' },
      { is: 'home' },
    );
    expect(all).toEqual({
      esp: 1,
      root: 3,
      'root-verity': 4,
      'root-verity-sig': 5,
      usr: 6,
      home: 7,
    });
  });

  test('attributes', () => {
    const partition = { number: 1, type: types.root, uuid: testUuid(1), label: '', offset: 1024, bytes: 512 };
    const table = { sectorBytes: 512, diskUuid: testUuid(0), entriesOffset: 1024 };
    const at = (attributes: bigint): unknown =>
      dissect({ ...table, partitions: [{ ...partition, attributes }] }, 'x86-64').get('root');
    expect(at(1n << 60n)).toMatchObject({ readOnly: true, growFileSystem: false });
    expect(at(1n << 59n)).toMatchObject({ readOnly: false, growFileSystem: true });
    expect(() => at(1n << 63n)).toThrow('that is to be mounted');
  });
});

describe('the choice', () => {
  test('an architecture that is not native counts where there is no other, with its own hashes', () => {
    expect(chosen({ is: 'root32' }, { is: 'root' }, { is: 'verity32' })).toEqual({ root: 2 });
    expect(chosen({ is: 'verity' }, { is: 'root32' }, { is: 'verity32' })).toEqual({
      root: 2,
      'root-verity': 3,
    });
  });

  test('none for this machine', () => {
    expect(() => chosen({ is: 'rootArm' }, { is: 'esp' })).toThrow(
      'there is no root and no usr partition for x86-64 that is to be mounted; what it has is root-arm64, esp',
    );
    expect(() => chosen({ is: 'unknown' })).toThrow('no partition of a known kind');
    expect(() => chosen({ is: 'verity' }, { is: 'signature' })).toThrow(DiskImageError);
  });

  test('the newest label', () => {
    expect(chosen({ is: 'root', label: 'os_9' }, { is: 'root', label: 'os_10' })).toEqual({ root: 2 });
    expect(chosen({ is: 'root', label: 'os_1.0' }, { is: 'root', label: 'os_1.0~rc1' })).toEqual({ root: 1 });
    expect(
      chosen(
        { is: 'root', label: 'b' },
        { is: 'verity', label: 'b' },
        { is: 'verity', label: 'a' },
        { is: 'root', label: 'a' },
      ),
    ).toEqual({ root: 1, 'root-verity': 2 });
  });

  test('one that is not to be mounted makes way', () => {
    expect(chosen({ is: 'root', label: '1' }, { is: 'root', label: '2', attributes: 1n << 63n })).toEqual({
      root: 1,
    });
  });

  test('two equally new are refused, with the place of the second', () => {
    const twice = (): unknown =>
      chosen({ is: 'root', label: 'a_1' }, { is: 'root', label: 'a_2' }, { is: 'root', label: 'a_2' });
    expect(twice).toThrow(
      'the partitions 2 and 3 are both root-x86-64, and by their labels neither is the newer',
    );
    expect(() => chosen({ is: 'root' }, { is: 'verity' }, { is: 'verity' })).toThrow('root-x86-64-verity');
  });
});

test('versions in their order', () => {
  const ordered = ['~1', '', '1~rc1', '1', '1-1', '1^', '1.0', '1.1', '1.2', '1.10', '2a', '2b', '10'];
  for (const [index, older] of ordered.entries()) {
    expect(compareVersions(older, older)).toBe(0);
    for (const newer of ordered.slice(index + 1)) {
      expect([older, newer, compareVersions(older, newer)]).toEqual([older, newer, expect.any(Number)]);
      expect(compareVersions(older, newer)).toBeLessThan(0);
      expect(compareVersions(newer, older)).toBeGreaterThan(0);
    }
  }
  expect(compareVersions('1.02', '1_.2')).toBe(0);
  expect(compareVersions('é1', '1é')).toBe(0);
});
