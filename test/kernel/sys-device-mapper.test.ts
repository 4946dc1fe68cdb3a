import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { hasVerityTarget, openVerityDevice, removeLeftDevices } from '../../src/sys/device-mapper.ts';
import { isSyscallError } from '../../src/sys/errno.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile, pread } from '../../src/sys/file.ts';
import { attachLoop } from '../../src/sys/loop.ts';
import { absent, isRoot, needs } from '../support/needs.ts';
import { verityPair } from '../support/verity-partitions.ts';

/** Devices of ours that the device mapper has. */
function devices(): string[] {
  return execFileSync('dmsetup', ['info', '--columns', '--noheadings', '-o', 'name'], { encoding: 'utf8' })
    .split('\n')
    .filter((name) => name.startsWith('cfs-mountd-'));
}

/** The kernel removes them on a thread of its own, once their last user has gone. */
async function noneIsLeft(): Promise<void> {
  await vi.waitFor(
    () => {
      expect(devices()).toEqual([]);
    },
    { timeout: 30_000, interval: 50 },
  );
}

const available = isRoot && existsSync('/dev/mapper/control') && hasVerityTarget();
// No set-up brings a device mapper to a kernel that has none; the virtual machines have one.
const why = isRoot ? 'this kernel has no device mapper with dm-verity' : 'only root makes devices';
const skipped = process.env['CFS_VM'] === 'uml' ? needs('kernel', available, why) : absent(available, why);

test.skipIf(available || !isRoot)(
  'without a device mapper there is no verity target, and the error says so',
  () => {
    expect(hasVerityTarget()).toBe(false);
    expect(() => removeLeftDevices()).toThrow(/ENOENT|ENODEV|ENXIO/);
  },
);

describe.skipIf(skipped)('devices checked by dm-verity', () => {
  let folder: string;
  const content = Buffer.alloc(4096 * 300, 'a sentence of data ');
  const { root, verity, rootHash } = verityPair(content, { salt: Buffer.alloc(32, 9), first: 0 });
  const table = {
    dataBlockBytes: 4096,
    hashBlockBytes: 4096,
    dataBlocks: 300,
    hashStartBlock: 1,
    rootHash,
    salt: '09'.repeat(32),
  };

  /** The device of a file that holds data and hashes one after the other. */
  function open(image: Uint8Array, changes: Partial<typeof table> = {}): OwnedFd {
    const path = join(folder, 'image');
    writeFileSync(path, image);
    using file = openFile(path);
    using data = attachLoop(file.number, { offset: 0, bytes: content.length });
    using hashes = attachLoop(file.number, { offset: content.length, bytes: verity.content.length });
    return openVerityDevice(data.number, hashes.number, { ...table, ...changes });
  }

  const image = Buffer.concat([root.content, verity.content]);

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'device-mapper-'));
  });
  // Each begins with none, whatever the one before it has left to the kernel.
  beforeEach(noneIsLeft);
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  test('show what the hashes vouch for, and are gone with their last user', async () => {
    const device = open(image);
    try {
      expect(devices()).toEqual([expect.stringContaining(`cfs-mountd-${process.pid}-`)]);
      const read = Buffer.alloc(content.length);
      expect(pread(device.number, read, 0)).toBe(content.length);
      expect(read.equals(content)).toBe(true);
    } finally {
      device.close();
    }
    await noneIsLeft();
  });

  test('fail where a block is not the one that was hashed, and only there', () => {
    const changed = Buffer.from(image);
    changed.writeUInt8(0, 4096 * 200 + 17);
    using device = open(changed);
    const block = Buffer.alloc(4096);
    expect(pread(device.number, block, 0)).toBe(4096);
    expect(() => pread(device.number, block, 4096 * 200)).toThrow('EIO');
  });

  test('fail wholly where the root hash is another one', () => {
    using device = open(image, { rootHash: '0'.repeat(64) });
    expect(() => pread(device.number, Buffer.alloc(4096), 0)).toThrow('EIO');
  });

  test('a table that the kernel refuses leaves nothing', async () => {
    let error: unknown;
    try {
      open(image, { dataBlocks: 10_000 }).close();
    } catch (caught) {
      error = caught;
    }
    expect(isSyscallError(error)).toBe(true);
    await noneIsLeft();
  });

  test('what a killed process left is removed after whichever step, what a living one has is not', async () => {
    const living = open(image);
    const dmsetup = (...parameters: readonly string[]): void => {
      execFileSync('dmsetup', parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
    };
    // No process has the ID 4194305: pid_max is at most 4194304.
    const left = (step: number): string => `cfs-mountd-4194305-1-000000000000000${step}`;
    const line = '0 8 error';
    try {
      dmsetup('create', left(1), '--notable');
      dmsetup('create', left(2), '--notable');
      dmsetup('load', left(2), '--table', line);
      dmsetup('create', left(3), '--noudevsync', '--table', line);
      dmsetup('create', 'another-000000000000000', '--notable');
      expect(removeLeftDevices()).toBe(3);
      await vi.waitFor(
        () => {
          expect(devices()).toEqual([expect.stringContaining(`cfs-mountd-${process.pid}-`)]);
        },
        { timeout: 30_000, interval: 50 },
      );
      expect(spawnSync('dmsetup', ['info', 'another-000000000000000']).status).toBe(0);
    } finally {
      spawnSync('dmsetup', ['remove', '--noudevsync', 'another-000000000000000']);
      living.close();
    }
    await noneIsLeft();
  });
});
