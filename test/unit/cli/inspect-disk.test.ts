import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { CommandError } from '../../../src/cli/command-error.ts';
import { inspectDisk } from '../../../src/cli/image-commands/inspect-disk.ts';
import { makeDisk, testUuid } from '../../support/disk-image.ts';
import { verityPair } from '../../support/verity-partitions.ts';

/** The start of a squashfs 4 of one block of 4096 bytes. */
function squashfs(): Buffer {
  const content = Buffer.alloc(4096);
  content.write('hsqs');
  content.writeUInt32LE(131_072, 12);
  content.writeUInt16LE(1, 20);
  content.writeUInt16LE(4, 28);
  content.writeBigUInt64LE(4096n, 40);
  return content;
}

describe.skipIf(process.arch !== 'x64')('what is told of a disk image', () => {
  let path: string;
  beforeAll(() => {
    path = join(mkdtempSync(join(tmpdir(), 'inspect-')), 'disk.raw');
  });
  afterAll(() => {
    rmSync(join(path, '..'), { recursive: true });
  });

  function told(image: Uint8Array): unknown {
    writeFileSync(path, image);
    const written: string[] = [];
    const write = vi
      .spyOn(process.stdout, 'write')
      .mockImplementation((text) => written.push(String(text)) > 0);
    try {
      inspectDisk(path, { json: true });
    } finally {
      write.mockRestore();
    }
    return JSON.parse(written.join(''));
  }

  const { root, verity, rootHash } = verityPair(squashfs(), { salt: Buffer.alloc(16), first: 40 });

  test('its partitions, what is mounted and by which root hash', () => {
    const image = makeDisk({ partitions: [root, { ...verity, label: 'hashes' }] });
    expect(told(image)).toMatchObject({
      fileSystem: 'ddi',
      imageBytes: image.length,
      sectorBytes: 512,
      partitions: [
        { designator: 'root', architecture: 'x86-64', number: 1, offset: 40 * 512, bytes: 4096 },
        { designator: 'root-verity', number: 2, label: 'hashes' },
      ],
      root: { fileSystem: 'squashfs', rootHash },
    });
  });

  const usr = { ...root, type: '8484680c-9521-48c6-9c11-b0720656f69e', uuid: testUuid(3) };

  test('that usr is mounted where there is no root', () => {
    expect(told(makeDisk({ partitions: [usr] }))).toMatchObject({
      partitions: [{ designator: 'usr' }],
      usr: { fileSystem: 'squashfs' },
    });
  });

  test('why nothing is mounted, where its partitions can be told', () => {
    const beside = { ...usr, first: 60, last: 67 };
    expect(told(makeDisk({ partitions: [root, beside] }))).toMatchObject({
      partitions: [{ designator: 'root' }, { designator: 'usr' }],
      refused: expect.stringContaining('is a usr partition beside root') as string,
    });
  });

  test('a table that is not sound is an error with its offset', () => {
    const image = makeDisk({ partitions: [root] });
    image.writeUInt8(1, 600);
    expect(() => told(image)).toThrow(CommandError);
    expect(() => told(image)).toThrow(/checksum.*\(at byte \d+\)/);
  });
});
