import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LimitExceeded } from '../../src/api/mount-delegation.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { adjustLimits, limits } from '../../src/daemon/callers/limits.ts';
import {
  buildFileSystem,
  builtFileSystems,
  presentFileSystems,
  type BuiltFileSystem,
} from '../support/file-systems.ts';
import { loopFiles } from '../support/loop-files.ts';
import { hashedDisk, mapperDevices } from '../support/verity-partitions.ts';
import { isRoot, needs } from '../support/needs.ts';
import { openDescriptors, openRoom, until, type Room } from './mounting-room.ts';

const here = presentFileSystems(builtFileSystems);

const names: readonly Mounted[] =
  here.includes('squashfs') && process.arch === 'x64' ? [...here, 'ddi'] : here;

type Mounted = BuiltFileSystem | 'ddi';

/** Each takes milliseconds, and of xfs and btrfs tens of them: CFS_LONG makes it a thousand of all. */
function mountsOf(fileSystem: Mounted): number {
  if (process.env['CFS_VM'] !== undefined) return fileSystem === 'ddi' ? 10 : 20;
  return process.env['CFS_LONG'] !== undefined || fileSystem === 'erofs' ? 1000 : 100;
}

/** An installed image of the filesystem, and how it is mounted, each time with a superblock of its own. */
function furnish(room: Room, fileSystem: Mounted): { readonly mount: () => Promise<OwnedFd> } {
  const tree = mkdtempSync(join(room.directory, 'tree-'));
  onTestFinished(() => {
    rmSync(tree, { recursive: true });
  });
  mkdirSync(join(tree, 'folder'));
  writeFileSync(join(tree, 'hello'), 'hello\n');
  const path = join(room.imageDirectory, 'image.raw');
  buildFileSystem(fileSystem === 'ddi' ? 'squashfs' : fileSystem, tree, path);
  // With hashes, and so with a device of dm-verity where the kernel has it.
  if (fileSystem === 'ddi') writeFileSync(path, hashedDisk(readFileSync(path)));
  const constraints = { ...room.constraints, fileSystem, stores: [] };
  return {
    mount: async () => {
      using image = await room.images.take({ kind: 'name', name: 'image' }, room.peer(), room.policy);
      return await room.mount(image, { constraints });
    },
  };
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('of every filesystem', () => {
  const loops = (room: Room): number => loopFiles().filter((path) => path.startsWith(room.directory)).length;

  test.each(names)(
    'many mounts of %s leave no loop device, no mapping, no share and no descriptor',
    async (fileSystem) => {
      const mappings = mapperDevices().length;
      const room = openRoom();
      const { mount } = furnish(room, fileSystem);
      // Threads that sweep have descriptors of their own, from the first time on.
      for (let count = 0; count < 3; count++) (await mount()).close();
      await until('the first are gone', () => swept(room) === 0);
      const descriptors = openDescriptors();
      for (let count = 0; count < mountsOf(fileSystem); count++) {
        using mounted = await mount();
        expect(readFileSync(join(descriptorPath(mounted.number), 'hello'), 'utf8')).toBe('hello\n');
        // As the event loop would: superblocks that have gone are noticed.
        if (count % 50 === 49) await until('what is left is swept', () => swept(room) < 50);
      }
      await until('every superblock is gone', () => swept(room) === 0);
      await until(
        'every loop device and mapping is gone',
        () => loops(room) === 0 && mapperDevices().length <= mappings,
      );
      expect(room.handouts.totals).toEqual({ superblocks: 0, loopDevices: 0, copiedBytes: 0 });
      await until('every descriptor is closed', () => openDescriptors() <= descriptors);
    },
  );

  function swept(room: Room): number {
    room.handouts.drain();
    return room.handouts.totals.superblocks;
  }

  test.skipIf(!here.includes('squashfs'))(
    'nobody gets more loop devices than are a user’s share',
    async () => {
      const before = limits.loopDevicesPerUser;
      adjustLimits(new Map([['loopDevicesPerUser', 3]]));
      onTestFinished(() => {
        adjustLimits(new Map([['loopDevicesPerUser', before]]));
      });
      const room = openRoom();
      const { mount } = furnish(room, 'squashfs');
      const held = [await mount(), await mount(), await mount()];
      await expect(mount()).rejects.toThrow(new LimitExceeded({ limit: 'loopDevicesPerUser', value: 3 }));
      expect(loops(room)).toBe(3);
      for (const mounted of held) mounted.close();
      await until('the share is free', () => swept(room) === 0);
      (await mount()).close();
    },
  );
});
