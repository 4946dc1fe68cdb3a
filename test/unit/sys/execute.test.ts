import { describe, expect, test } from 'vitest';

import { digestFromBytes } from '../../../src/base/digest.ts';
import type { Features } from '../../../src/mount/features.ts';
import { planLayer, planMount } from '../../../src/mount/plan.ts';
import type { Plan, PlanInput } from '../../../src/mount/plan.ts';
import { SyscallError } from '../../../src/sys/errno.ts';
import { execute } from '../../../src/sys/execute.ts';
import type { Kernel, Named } from '../../../src/sys/execute.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';

/** A kernel that only keeps books, and refuses the call number `failAt` (from 0). */
class FakeKernel implements Kernel {
  readonly open = new Set<number>();
  attached = 0;
  detached = 0;
  calls = 0;
  faults: string[] = [];
  lowerdir: string | undefined;
  path = '/proc/fs/0';
  readonly #failAt: number;
  #next = 100;

  constructor(failAt: number) {
    this.#failAt = failAt;
  }

  #call(name: string): void {
    if (this.calls++ === this.#failAt) throw new SyscallError(name, 'EIO');
  }

  #made(): OwnedFd {
    const fd = this.#next++;
    this.open.add(fd);
    return new OwnedFd(fd, (closed) => {
      if (!this.open.delete(closed)) this.faults.push(`${closed} closed twice`);
    });
  }

  #uses(fd: number): void {
    if (!this.open.has(fd)) this.faults.push(`${fd} used while not open`);
  }

  discard(mount: OwnedFd): void {
    mount.close();
  }

  fsopen(): OwnedFd {
    this.#call('fsopen');
    return this.#made();
  }

  fsconfigFlag(context: number): void {
    this.#uses(context);
    this.#call('fsconfig');
  }

  fsconfigString(context: number, key: string, value: string): void {
    this.#uses(context);
    this.#call('fsconfig');
    if (key === 'lowerdir') this.lowerdir = value;
  }

  fsconfigFd(context: number, _key: string, fd: number): void {
    this.#uses(context);
    if (fd >= 100) this.#uses(fd);
    this.#call('fsconfig');
  }

  fsconfigCreate(context: number): void {
    this.#uses(context);
    this.#call('fsconfig');
  }

  fsconfigCreateExclusive(context: number): void {
    this.fsconfigCreate(context);
  }

  named({ fd }: Named, create: () => void): void {
    if (fd >= 100) this.#uses(fd);
    this.#call('symlink');
    create();
  }

  fsmount(context: number): OwnedFd {
    this.#uses(context);
    this.#call('fsmount');
    return this.#made();
  }

  cloneTree(mount: number): OwnedFd {
    if (mount >= 100) this.#uses(mount);
    this.#call('open_tree');
    return this.#made();
  }

  mapIds(mount: number): void {
    this.#uses(mount);
    this.#call('mount_setattr');
  }

  attachLoop(): OwnedFd {
    this.#call('ioctl');
    return this.#made();
  }

  openVerityDevice(data: number, hashes: number): OwnedFd {
    this.#uses(data);
    this.#uses(hashes);
    this.#call('ioctl');
    return this.#made();
  }

  attach(mount: OwnedFd): { path: string; detach: () => void } {
    this.#uses(mount.number);
    this.#call('move_mount');
    this.attached++;
    return { path: this.path, detach: () => this.detached++ };
  }

  lock(mount: OwnedFd): OwnedFd {
    this.#uses(mount.number);
    this.#call('open_tree');
    return this.#made();
  }
}

const features: Features = {
  erofsFromFile: true,
  loopDevices: true,
  overlayOverFileImages: true,
  idmappedErofs: true,
  overlayLowerdirPlus: true,
  overlayLayersByFd: true,
  overlayDetachedLayers: true,
  overlayDataOnly: true,
  overlayVerity: true,
  fsVerity: true,
  createExclusive: true,
  lockedMounts: true,
  lockedClones: true,
  verityDevices: true,
};
const composefs: PlanInput = {
  fileSystem: 'composefs',
  digest: digestFromBytes(new Uint8Array(32)),
  imageFd: 10,
  stores: [
    { fd: 11, trusted: false },
    { fd: 12, trusted: true },
  ],
  verity: 'require',
  attributes: ['ro', 'nodev', 'nosuid'],
  userNamespaceFd: 13,
  lock: true,
};

const verityTable = {
  dataBlockBytes: 4096,
  hashBlockBytes: 4096,
  dataBlocks: 2,
  hashStartBlock: 1,
  rootHash: '0'.repeat(64),
  salt: '',
};

const plans: [string, Plan][] = [
  ['composefs', planMount(composefs, features)],
  ['composefs without stores', planMount({ ...composefs, stores: [] }, features)],
  ['composefs over a layer from before', planMount({ ...composefs, layerFd: 14 }, features)],
  ['the layer of composefs', planLayer(composefs, features)],
  ['composefs with layers by path', planMount(composefs, { ...features, overlayDetachedLayers: false })],
  [
    'composefs with layers by path and without stores',
    planMount(
      { ...composefs, stores: [] },
      { ...features, overlayDetachedLayers: false, createExclusive: false },
    ),
  ],
  [
    'composefs by loop device, with layers all at once',
    planMount(composefs, {
      ...features,
      erofsFromFile: false,
      overlayDetachedLayers: false,
      overlayLowerdirPlus: false,
    }),
  ],
  [
    'EROFS by loop device',
    planMount({ ...composefs, fileSystem: 'erofs' }, { ...features, erofsFromFile: false }),
  ],
  ['EROFS', planMount({ ...composefs, fileSystem: 'erofs' }, features)],
  [
    'a range of a file, with IDs mapped',
    planMount(
      { ...composefs, fileSystem: 'ext4', range: { offset: 4096, bytes: 8192 }, userNamespaceFd: 20 },
      features,
    ),
  ],
  [
    'a partition with hashes',
    planMount(
      {
        ...composefs,
        fileSystem: 'squashfs',
        range: { offset: 4096, bytes: 8192 },
        hashes: { range: { offset: 12_288, bytes: 8192 }, table: verityTable },
      },
      features,
    ),
  ],
  ['EROFS without a lock', planMount({ ...composefs, fileSystem: 'erofs', lock: false }, features)],
];

describe.each(plans)('%s', (_name, plan) => {
  // One for each step, and one more where a name is made for it.
  const calls = plan.steps.length + plan.steps.filter((step) => 'named' in step).length;

  test('leaves its result open, and nothing else', () => {
    const kernel = new FakeKernel(-1);
    using result = execute(plan, kernel);
    expect([...kernel.open]).toEqual([result.number]);
    expect(kernel.calls).toBe(calls);
    expect(kernel.attached).toBe(kernel.detached);
    result.close();
    expect(kernel.open.size).toBe(0);
    expect(kernel.faults).toEqual([]);
  });

  test('closes everything once, whichever call fails', () => {
    for (let failAt = 0; failAt < calls; failAt++) {
      const kernel = new FakeKernel(failAt);
      expect(() => execute(plan, kernel)).toThrow(SyscallError);
      expect([...kernel.open]).toEqual([]);
      expect(kernel.attached).toBe(kernel.detached);
      expect(kernel.faults).toEqual([]);
    }
  });
});

test('layers all at once are separated as overlayfs reads them, and separators in paths escaped', () => {
  const kernel = new FakeKernel(-1);
  kernel.path = '/a:b\\c';
  const plan: Plan = {
    steps: [
      { step: 'fsopen', fileSystem: 'tmpfs', into: 'tmpfs' },
      { step: 'fsmount', context: 'tmpfs', attributes: 0, into: 'mount' },
      { step: 'attach', mount: 'mount', into: 'place' },
      { step: 'fsopen', fileSystem: 'overlay', into: 'overlay' },
      {
        step: 'layers',
        context: 'overlay',
        layers: [{ attached: 'place' }, { fd: 1 }],
        data: [{ fd: 2 }, { fd: 3 }],
      },
    ],
    result: 'overlay',
  };
  execute(plan, kernel).close();
  expect(kernel.lowerdir).toBe('/a\\:b\\\\c:/proc/self/fd/1::/proc/self/fd/2::/proc/self/fd/3');
});

test('a plan that uses what no step made is a bug', () => {
  const kernel = new FakeKernel(-1);
  expect(() => execute({ steps: [], result: 'nothing' }, kernel)).toThrow('before a step makes it');
});
