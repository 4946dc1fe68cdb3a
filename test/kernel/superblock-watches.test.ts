import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Handouts } from '../../src/daemon/callers/handouts.ts';
import type { HandedOver } from '../../src/sys/handed-over.ts';
import { SuperblockWatches, type DescriptorStore } from '../../src/daemon/callers/superblock-watches.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { createMemfd, duplicate, fstat, writeAll } from '../../src/sys/file.ts';
import { createInotify } from '../../src/sys/inotify.ts';
import { fsconfigCreate, fsmount, fsopen } from '../../src/sys/mount-calls.ts';
import { isRoot, needs } from '../support/needs.ts';
import { openDescriptors } from './mounting-room.ts';

const owner = { user: 1234, group: 'container 4026531837' };
const nothing = { superblocks: 0, loopDevices: 0, copiedBytes: 0 };

/** A superblock of its own. */
function superblock(): OwnedFd {
  using context = fsopen('tmpfs');
  fsconfigCreate(context.number);
  return fsmount(context.number, 0);
}

/** Keeps descriptors as the service manager does. */
class Store implements DescriptorStore {
  #kept: { readonly name: string; readonly fd: OwnedFd }[] = [];

  constructor() {
    onTestFinished(() => {
      for (const { fd } of this.#kept) fd.close();
    });
  }

  get names(): readonly string[] {
    return this.#kept.map(({ name }) => name);
  }

  keep(name: string, fds: readonly number[]): void {
    this.#kept.push(...fds.map((fd) => ({ name, fd: duplicate(fd) })));
  }

  drop(name: string): void {
    for (const each of this.#kept) if (each.name === name) each.fd.close();
    this.#kept = this.#kept.filter((each) => each.name !== name);
  }

  /** What a process that starts now gets. */
  handedOver(): HandedOver[] {
    return this.#kept.map(({ name, fd }) => ({ name, fd: duplicate(fd.number).take() }));
  }

  /** The counts of a process that starts now; it ends after the test, or before. */
  start(): Handouts {
    const handouts = new Handouts(SuperblockWatches.open(this.handedOver(), this));
    onTestFinished(() => {
      handouts.close();
    });
    return handouts;
  }
}

/** Hands `mount` out, with two loop devices and a copied image. */
function handOut(handouts: Handouts, mount: OwnedFd, copiedBytes: number): void {
  const copy = handouts.reserveCopy(owner, copiedBytes);
  handouts.watch(mount.number, handouts.reserve(owner, 2), { copy, record: undefined });
  copy.release();
}

/** Runs `open` while new inotify instances have room for no more than `events`. */
function withQueueOf<Opened>(events: number, open: () => Opened): Opened {
  const setting = '/proc/sys/fs/inotify/max_queued_events';
  const before = readFileSync(setting, 'latin1');
  writeFileSync(setting, String(events));
  try {
    return open();
  } finally {
    writeFileSync(setting, before);
  }
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))(
  'the superblocks of an earlier process',
  () => {
    test('count with their loop devices and copies until they are gone', () => {
      const store = new Store();
      using early = superblock();
      using late = superblock();
      const first = store.start();
      handOut(first, early, 4096);
      handOut(first, late, 8192);
      first.close();
      early.close();
      const second = store.start();
      expect(second.inherited).toBe(1);
      expect(second.totals).toEqual({ superblocks: 1, loopDevices: 2, copiedBytes: 8192 });
      // What is there to be told of one that was gone at the start is told to nobody.
      second.drain();
      expect(second.totals).toEqual({ superblocks: 1, loopDevices: 2, copiedBytes: 8192 });
      late.close();
      second.drain();
      expect(second.totals).toEqual(nothing);
      expect(second.inherited).toBe(0);
    });

    test('need no more records than there are at a time', () => {
      const store = new Store();
      const first = store.start();
      for (let round = 0; round < 20; round += 1) {
        const mounts = [superblock(), superblock()];
        for (const mount of mounts) handOut(first, mount, round + 1);
        for (const mount of mounts) mount.close();
        first.drain();
      }
      using last = superblock();
      handOut(first, last, 77);
      first.close();
      expect(store.start().totals).toEqual({ superblocks: 1, loopDevices: 2, copiedBytes: 77 });
      const sizes = store.handedOver().map(({ fd }) => {
        using owned = new OwnedFd(fd);
        return Number(fstat(owned.number).size);
      });
      expect(Math.max(...sizes)).toBe(2 * 128);
    });

    test('go also where the kernel could not queue that they did', () => {
      const few = 8;
      const handouts = withQueueOf(few, () => new Store().start());
      const mounts = Array.from({ length: 2 * few }, superblock);
      for (const mount of mounts) handOut(handouts, mount, 1);
      using alive = superblock();
      handOut(handouts, alive, 5);
      for (const mount of mounts) mount.close();
      handouts.drain();
      expect(handouts.totals).toEqual({ superblocks: 1, loopDevices: 2, copiedBytes: 5 });
    });

    test('whatever else is kept under such a name is dropped', () => {
      const store = new Store();
      const inotify = createInotify();
      const memory = createMemfd('test');
      onTestFinished(() => {
        inotify.close();
        memory.close();
      });
      const name = (): string => `superblocks-1-${randomBytes(8).toString('hex')}`;
      store.keep(name(), [memory.number]);
      store.keep(name(), [inotify.number, inotify.number]);
      store.keep(name(), [inotify.number, memory.number, memory.number]);
      store.keep('superblocks-99-of-a-later-version', [inotify.number, memory.number]);
      // What is not whole.
      writeAll(memory.number, Buffer.from('1 2 3 1234 - user 12'));
      const good = name();
      store.keep(good, [inotify.number, memory.number]);
      store.keep(name(), [inotify.number, memory.number]);
      const before = openDescriptors();
      expect(store.start().totals).toEqual(nothing);
      expect(store.names).toEqual([good, good]);
      expect(openDescriptors()).toBeLessThan(before);
    });
  },
);
