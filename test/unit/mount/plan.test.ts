import { describe, expect, test } from 'vitest';

import { digestFromBytes } from '../../../src/base/digest.ts';
import { noFeatures } from '../../../src/mount/features.ts';
import type { Features } from '../../../src/mount/features.ts';
import { KernelUnsupportedError, loopsOf, planLayer, planMount } from '../../../src/mount/plan.ts';
import type { Plan, PlanInput } from '../../../src/mount/plan.ts';

const all: Features = {
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
const digest = digestFromBytes(new Uint8Array(32));
const composefs: PlanInput = {
  fileSystem: 'composefs',
  digest,
  imageFd: 10,
  stores: [{ fd: 11, trusted: false }],
  verity: 'require',
  attributes: ['ro', 'nodev'],
  lock: true,
};

function option(plan: Plan, key: string): string | undefined {
  for (const step of plan.steps) if (step.step === 'string' && step.key === key) return step.value;
  return undefined;
}

function steps(plan: Plan): string[] {
  return plan.steps.map((step) => step.step);
}

describe('planMount', () => {
  test('plain EROFS carries the attributes itself', () => {
    const plan = planMount({ ...composefs, fileSystem: 'erofs' }, all);
    expect(plan).toEqual({
      steps: [
        { step: 'fsopen', fileSystem: 'erofs', into: 'image context' },
        { step: 'string', context: 'image context', key: 'source', value: digest },
        {
          step: 'create',
          context: 'image context',
          exclusive: true,
          named: { name: digest, value: { fd: 10 } },
        },
        { step: 'fsmount', context: 'image context', attributes: 0x5, into: 'image' },
        { step: 'lock', mount: 'image', into: 'locked' },
      ],
      result: 'locked',
    });
  });

  test('composefs puts an overlay with data-only layers over the image', () => {
    const plan = planMount(composefs, all);
    expect(plan.steps.slice(4)).toEqual([
      { step: 'fsopen', fileSystem: 'overlay', into: 'context' },
      { step: 'string', context: 'context', key: 'source', value: digest },
      { step: 'string', context: 'context', key: 'metacopy', value: 'on' },
      { step: 'string', context: 'context', key: 'redirect_dir', value: 'on' },
      { step: 'string', context: 'context', key: 'verity', value: 'require' },
      { step: 'descriptor', context: 'context', key: 'lowerdir+', value: { slot: 'image' } },
      { step: 'descriptor', context: 'context', key: 'datadir+', value: { fd: 11 } },
      { step: 'create', context: 'context', exclusive: true },
      { step: 'fsmount', context: 'context', attributes: 0x5, into: 'overlay' },
      { step: 'lock', mount: 'overlay', into: 'locked' },
    ]);
    expect(plan.result).toBe('locked');
  });

  test('composefs over a layer from before makes no superblock of the image, and maps IDs on a clone', () => {
    const plan = planMount({ ...composefs, layerFd: 12, userNamespaceFd: 13 }, all);
    expect(plan.steps.slice(0, 3)).toEqual([
      { step: 'clone', mount: 12, into: 'image' },
      { step: 'idmap', mount: 'image', userNamespaceFd: 13 },
      { step: 'fsopen', fileSystem: 'overlay', into: 'context' },
    ]);
    expect(plan.steps.slice(2)).toEqual(planMount(composefs, all).steps.slice(4));
    expect(planLayer({ ...composefs, userNamespaceFd: 13 }, all)).toEqual({
      steps: planMount(composefs, all).steps.slice(0, 4),
      result: 'image',
    });
  });

  test('without stores, an empty layer stands in for them', () => {
    const plan = planMount({ ...composefs, stores: [] }, { ...all, fsVerity: false });
    expect(option(plan, 'verity')).toBe('off');
    expect(plan.steps).toContainEqual({
      step: 'descriptor',
      context: 'context',
      key: 'datadir+',
      value: { slot: 'empty' },
    });
  });

  test('without detached layers, the image is attached and layers are paths', () => {
    const plan = planMount(composefs, { ...all, overlayDetachedLayers: false });
    expect(steps(plan)).not.toContain('descriptor');
    expect(plan.steps).toContainEqual({ step: 'attach', mount: 'image', into: 'image attached' });
    expect(plan.steps).toContainEqual({
      step: 'path',
      context: 'context',
      key: 'lowerdir+',
      value: { attached: 'image attached' },
    });
    expect(plan.steps).toContainEqual({
      step: 'path',
      context: 'context',
      key: 'datadir+',
      value: { fd: 11 },
    });
  });

  describe('the image', () => {
    const loop = { step: 'loop', file: 10, into: 'loop' };

    test.each([
      ['composefs on a kernel with everything', 'composefs', {}, false],
      ['composefs without EROFS from a file', 'composefs', { erofsFromFile: false }, true],
      ['EROFS without EROFS from a file', 'erofs', { erofsFromFile: false }, true],
      ['composefs where it could not be a layer', 'composefs', { overlayOverFileImages: false }, true],
      ['EROFS where composefs could not be a layer', 'erofs', { overlayOverFileImages: false }, false],
      [
        'composefs where it could not be a layer, without loop devices',
        'composefs',
        { overlayOverFileImages: false, loopDevices: false },
        false,
      ],
    ] as const)('%s', (_case, fileSystem, missing, expected) => {
      const plan = planMount({ ...composefs, fileSystem }, { ...all, ...missing });
      expect(plan.steps[0]).toEqual(
        expected ? loop : { step: 'fsopen', fileSystem: 'erofs', into: 'image context' },
      );
      const value = expected ? { slot: 'loop' } : { fd: 10 };
      expect(plan.steps).toContainEqual(
        fileSystem === 'erofs'
          ? { step: 'create', context: 'image context', exclusive: true, named: { name: digest, value } }
          : { step: 'path', context: 'image context', key: 'source', value },
      );
    });
  });

  describe('filesystems of block devices', () => {
    const written = (plan: Plan): string[] =>
      plan.steps.flatMap((step) => {
        if (step.step === 'flag') return [step.key];
        return step.step === 'string' ? [`${step.key}=${step.value}`] : [];
      });

    test.each([
      ['squashfs', ['ro', `source=${digest}`]],
      ['ext4', ['ro', 'noload', 'errors=continue', `source=${digest}`]],
      ['xfs', ['ro', 'norecovery', 'nouuid', `source=${digest}`]],
      ['btrfs', ['ro', 'rescue=nologreplay', `source=${digest}`]],
    ] as const)('%s: by loop device, with no option but ours', (fileSystem, options) => {
      const plan = planMount({ ...composefs, fileSystem }, all);
      expect(plan.steps.slice(0, 2)).toEqual([
        { step: 'loop', file: 10, into: 'loop' },
        { step: 'fsopen', fileSystem, into: 'image context' },
      ]);
      expect(written(plan)).toEqual(options);
      expect(steps(plan).slice(-2)).toEqual(['fsmount', 'lock']);
    });

    test.each(['erofs', 'ext4'] as const)(
      '%s in a part of a file: the loop device shows that part',
      (fileSystem) => {
        const range = { offset: 1_048_576, bytes: 4_194_304 };
        const plan = planMount({ ...composefs, fileSystem, range }, all);
        expect(plan.steps[0]).toEqual({ step: 'loop', file: 10, range, into: 'loop' });
      },
    );

    test('IDs are mapped without asking what EROFS can do', () => {
      const plan = planMount(
        { ...composefs, fileSystem: 'ext4', userNamespaceFd: 5 },
        { ...all, idmappedErofs: false },
      );
      expect(steps(plan)).toContain('idmap');
    });

    test('need loop devices', () => {
      expect(() => planMount({ ...composefs, fileSystem: 'xfs' }, { ...all, loopDevices: false })).toThrow(
        KernelUnsupportedError,
      );
    });
  });

  describe('layers all at once', () => {
    const before = {
      ...all,
      overlayLowerdirPlus: false,
      overlayLayersByFd: false,
      overlayDetachedLayers: false,
    };
    const image = { attached: 'image attached' };
    const empty = { attached: 'empty attached' };

    test.each([
      ['stores are data-only', {}, before, [image], [{ fd: 11 }]],
      ['an empty layer is data-only', { stores: [] }, before, [image], [empty]],
      [
        'or an ordinary one',
        { stores: [] },
        { ...before, overlayDataOnly: false, overlayVerity: false },
        [image, empty],
        [],
      ],
    ] as const)('%s', (_case, more, features, layers, data) => {
      const plan = planMount({ ...composefs, ...more }, features);
      expect(plan.steps).toContainEqual({ step: 'layers', context: 'context', layers, data });
      expect(steps(plan)).not.toContain('descriptor');
      expect(plan.steps.filter((step) => 'key' in step && step.key.endsWith('+'))).toEqual([]);
    });
  });

  test('IDs are mapped on the image, before the overlay is made', () => {
    const plan = planMount({ ...composefs, userNamespaceFd: 20 }, all);
    expect(steps(plan).indexOf('idmap')).toBe(4);
    expect(plan.steps[4]).toEqual({ step: 'idmap', mount: 'image', userNamespaceFd: 20 });
  });

  test.each([
    ['require', false, all, 'require'],
    ['require', true, all, 'require'],
    ['ifPresent', false, all, 'on'],
    ['ifPresent', true, all, 'off'],
    ['ifPresent', true, { ...all, fsVerity: false }, 'off'],
    ['never', false, { ...all, fsVerity: false }, 'off'],
    ['never', false, { ...all, overlayVerity: false }, undefined],
  ] as const)('verity %s with a trusted store %s', (verity, trusted, features, expected) => {
    const plan = planMount({ ...composefs, verity, stores: [{ fd: 11, trusted }] }, features);
    expect(option(plan, 'verity')).toBe(expected);
  });

  test.each([
    ['fs-verity', { fsVerity: false }, {}, /trusted/],
    ['fs-verity', { fsVerity: false }, { verity: 'ifPresent' }, /trusted/],
    ['verity of overlayfs', { overlayVerity: false }, {}, /trusted/],
    ['EROFS from a file', { erofsFromFile: false, loopDevices: false }, {}, /loop devices/],
    ['data-only', { overlayDataOnly: false }, {}, /needs no store/],
    ['data-only', { overlayDataOnly: false, overlayLowerdirPlus: false }, {}, /plain EROFS/],
    ['verity of overlayfs', { overlayVerity: false }, { verity: 'ifPresent' }, /trusted/],
    ['ID-mapped', { idmappedErofs: false }, { userNamespaceFd: 5 }, /idMap none/],
    ['locking', { lockedMounts: false }, {}, undefined],
  ] as const)(
    'a kernel without %s is refused, never used more weakly',
    (feature, missing, demand, remedy) => {
      let thrown: unknown;
      try {
        planMount({ ...composefs, ...demand }, { ...all, ...missing });
      } catch (error) {
        thrown = error;
      }
      if (!(thrown instanceof KernelUnsupportedError)) throw new Error('not refused');
      expect(thrown.feature).toContain(feature);
      if (remedy === undefined) expect(thrown.remedy).toBeUndefined();
      else expect(thrown.remedy).toMatch(remedy);
    },
  );

  test('a kernel with no feature mounts nothing', () => {
    expect(() => planMount(composefs, noFeatures)).toThrow(KernelUnsupportedError);
  });
});

describe('a partition with hashes', () => {
  const table = {
    dataBlockBytes: 4096,
    hashBlockBytes: 4096,
    dataBlocks: 2,
    hashStartBlock: 1,
    rootHash: 'ab'.repeat(32),
    salt: '',
  };
  const partition: PlanInput = {
    ...composefs,
    fileSystem: 'squashfs',
    range: { offset: 4096, bytes: 8192 },
    hashes: { range: { offset: 12_288, bytes: 8192 }, table },
  };

  test('is mounted from the device that checks it', () => {
    const { steps } = planMount(partition, all);
    expect(steps.slice(0, 3)).toEqual([
      { step: 'loop', file: partition.imageFd, range: partition.range, into: 'loop' },
      { step: 'loop', file: partition.imageFd, range: partition.hashes?.range, into: 'hashes' },
      { step: 'verity', data: 'loop', hashes: 'hashes', table, into: 'checked' },
    ]);
    expect(steps.find(({ step }) => step === 'create')).toMatchObject({
      named: { value: { slot: 'checked' } },
    });
    expect(loopsOf(partition, all)).toBe(2);
  });

  test('is mounted from its loop device where there is no dm-verity', () => {
    const without = { ...all, verityDevices: false };
    const { steps } = planMount(partition, without);
    expect(steps.filter(({ step }) => step === 'loop')).toHaveLength(1);
    expect(steps.some(({ step }) => step === 'verity')).toBe(false);
    expect(steps.find(({ step }) => step === 'create')).toMatchObject({ named: { value: { slot: 'loop' } } });
    expect(loopsOf(partition, without)).toBe(1);
  });

  test('that alone are vouched for is never mounted unchecked', () => {
    const required = { ...partition, hashesRequired: true };
    expect(planMount(required, all)).toEqual(planMount(partition, all));
    for (const plan of [planMount, loopsOf])
      expect(() => plan(required, { ...all, verityDevices: false })).toThrow(
        /dm-verity .* a signature of the whole file/,
      );
  });
});
