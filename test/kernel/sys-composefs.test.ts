import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { describe, expect, test, vi } from 'vitest';

import type { Digest } from '../../src/base/digest.ts';
import type { Attribute } from '../../src/policy/policy.ts';
import type { Features } from '../../src/mount/features.ts';
import { planMount } from '../../src/mount/plan.ts';
import type { Plan, PlanInput } from '../../src/mount/plan.ts';
import { buildImage } from '../../src/store/build.ts';
import { ObjectStore } from '../../src/store/objects.ts';
import { execute, linuxKernel, mountOnStage } from '../../src/sys/execute.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import {
  cloneTree,
  fsconfigCreate,
  fsconfigString,
  fsmount,
  fsopen,
  moveMount,
  umountDetach,
} from '../../src/sys/mount-calls.ts';
import { descriptorPath } from '../../src/sys/path.ts';
import { probeFeatures } from '../../src/sys/probe.ts';
import { Stage } from '../../src/sys/stage.ts';
import type { Attached, StageHome } from '../../src/sys/stage.ts';
import { loopFiles } from '../support/loop-files.ts';
import { isRoot, needs } from '../support/needs.ts';
import { mountTable, openDescriptors, scratchDirectory } from './sys-room.ts';

const skip = needs('kernel', isRoot, 'root');
const big = 'content that is too long to be kept inside of the image\n'.repeat(100);

/** What kernels before 6.7 lack. */
const olderThan67: Partial<Features> = { overlayDetachedLayers: false, overlayLowerdirPlus: false };

interface Built {
  readonly directory: string;
  readonly imagePath: string;
  readonly storePath: string;
  readonly digest: Digest;
  readonly image: Uint8Array;
}

async function build(): Promise<Built> {
  const directory = scratchDirectory();
  const source = join(directory, 'source');
  const storePath = join(directory, 'store');
  mkdirSync(join(source, 'folder'), { recursive: true });
  mkdirSync(storePath);
  writeFileSync(join(source, 'folder', 'small'), 'small\n');
  writeFileSync(join(source, 'big'), big);
  const { image, digest } = await buildImage({
    source,
    store: ObjectStore.open(storePath),
    minVersion: 1,
    maxVersion: 1,
  });
  const imagePath = join(directory, 'image.cfs');
  writeFileSync(imagePath, image);
  return { directory, imagePath, storePath, digest, image };
}

interface Asked {
  readonly verity?: PlanInput['verity'];
  readonly attributes?: readonly Attribute[];
  readonly stores?: boolean;
}

function mount(built: Built, stage: Stage, features: Features, asked: Asked = {}): OwnedFd {
  return planned(built, stage, features, asked, (plan) => mountOnStage(plan, stage));
}

/** Has `make` carry out the plan while image and store are open. */
function planned(
  built: Built,
  stage: Stage,
  features: Features,
  asked: Asked,
  make: (plan: Plan) => OwnedFd,
): OwnedFd {
  using image = openFile(built.imagePath);
  const byPath = !features.overlayDetachedLayers;
  using store = byPath
    ? stage.inside(() => openFile(built.storePath, { directory: true }))
    : cloneTree(built.storePath);
  const stores = asked.stores === false ? [] : [{ fd: store.number, trusted: true }];
  const plan = planMount(
    {
      fileSystem: 'composefs',
      digest: built.digest,
      imageFd: image.number,
      stores,
      verity: asked.verity ?? 'ifPresent',
      attributes: asked.attributes ?? ['ro', 'nodev', 'nosuid'],
      lock: true,
    },
    features,
  );
  return make(plan);
}

describe.skipIf(skip)('composefs on this kernel', () => {
  // In the namespaces of the stage, a clone for a store is made where the thread is.
  test.each<[StageHome, string, Partial<Features>]>([
    ['host', 'as detached mounts', {}],
    ['stage', 'as detached mounts', {}],
    ['locked', 'as detached mounts', {}],
    ['host', 'by path', { overlayDetachedLayers: false }],
    ['stage', 'by path', { overlayDetachedLayers: false }],
    ['locked', 'by path', { overlayDetachedLayers: false }],
    ['host', 'all at once', olderThan67],
    ['stage', 'all at once', olderThan67],
    ['stage', 'all at once over a loop device', { ...olderThan67, erofsFromFile: false }],
  ])('mounts at home in "%s", layers %s', async (home, _way, lacking) => {
    const built = await build();
    const table = mountTable();
    const descriptors = openDescriptors();
    {
      using stage = Stage.open(home);
      const found = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
      expect(found).toMatchObject({ erofsFromFile: true, overlayDataOnly: true, lockedMounts: true });
      const features = { ...found, ...lacking };
      const during = openDescriptors();
      for (let round = 0; round < 5; round++) {
        using mounted = mount(built, stage, features);
        const root = descriptorPath(mounted.number);
        expect(readdirSync(root).sort()).toEqual(['big', 'folder']);
        expect(readFileSync(join(root, 'big'), 'utf8')).toBe(big);
        expect(readFileSync(join(root, 'folder', 'small'), 'utf8')).toBe('small\n');
        expect(() => {
          writeFileSync(join(root, 'new'), '');
        }).toThrow('EROFS');
        stage.sweep();
      }
      expect(openDescriptors()).toBe(during);
    }
    expect(mountTable()).toBe(table);
    expect(openDescriptors()).toBe(descriptors);
  });

  test('without stores it shows the tree, and no file that the image does not hold', async () => {
    const built = await build();
    using stage = Stage.open();
    const features = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
    using mounted = mount(built, stage, features, { stores: false, verity: 'require' });
    const root = descriptorPath(mounted.number);
    expect(readdirSync(root).sort()).toEqual(['big', 'folder']);
    expect(readFileSync(join(root, 'folder', 'small'), 'utf8')).toBe('small\n');
    expect(() => readFileSync(join(root, 'big'))).toThrow();
  });

  test.each([
    ['data-only', {}],
    ['ordinary, where there are no data-only ones', { overlayDataOnly: false, overlayVerity: false }],
  ])('without stores, layers all at once: %s', async (_kind, lacking) => {
    const built = await build();
    using stage = Stage.open();
    const found = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
    const features = { ...found, ...olderThan67, ...lacking };
    using mounted = mount(built, stage, features, { stores: false, verity: 'require' });
    const root = descriptorPath(mounted.number);
    expect(readdirSync(root).sort()).toEqual(['big', 'folder']);
    expect(readFileSync(join(root, 'folder', 'small'), 'utf8')).toBe('small\n');
    expect(() => readFileSync(join(root, 'big'))).toThrow();
  });

  test('layers all at once: separators in a path are read as parts of it', async () => {
    const built = await build();
    const place = join(built.directory, 'a:b\\c::d');
    mkdirSync(place);
    using stage = Stage.open();
    const found = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
    const attach = (layer: OwnedFd): Attached => {
      moveMount(layer.number, place);
      return {
        path: place,
        detach: () => {
          umountDetach(place);
        },
      };
    };
    using mounted = planned(built, stage, { ...found, ...olderThan67 }, {}, (plan) =>
      stage.inside(() => execute(plan, { ...linuxKernel(stage), attach })),
    );
    expect(readFileSync(join(descriptorPath(mounted.number), 'big'), 'utf8')).toBe(big);
  });

  test('where nothing could lie over a mount from a file, a loop device is taken, and goes with the mount', async () => {
    const built = await build();
    const loops = (): string[] => loopFiles().filter((path) => path === built.imagePath);
    {
      using stage = Stage.open();
      const found = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
      using mounted = mount(built, stage, { ...found, overlayOverFileImages: false });
      expect(loops()).toHaveLength(1);
      const at = join(built.directory, 'at');
      mkdirSync(at);
      stage.inside(() => {
        moveMount(mounted.number, at);
        using context = fsopen('overlay');
        fsconfigString(context.number, 'lowerdir', `${at}:${built.storePath}`);
        fsconfigCreate(context.number);
        using overlay = fsmount(context.number, 0);
        expect(readFileSync(join(descriptorPath(overlay.number), 'big'), 'utf8')).toBe(big);
        umountDetach(at);
      });
    }
    await vi.waitUntil(() => loops().length === 0, { timeout: 30_000 });
  });

  test('a mount that the kernel refuses says why, and leaves nothing', async () => {
    const built = await build();
    writeFileSync(built.imagePath, 'this is no image');
    using stage = Stage.open();
    const features = probeFeatures({ scratchDirectory: built.directory, image: built.image, stage });
    const descriptors = openDescriptors();
    expect(() => mount(built, stage, features)).toThrow(expect.objectContaining({ syscall: 'fsconfig' }));
    stage.sweep();
    expect(openDescriptors()).toBe(descriptors);
  });

  test('the kernel says in words what it did not like', () => {
    using context = fsopen('overlay');
    expect(() => {
      fsconfigString(context.number, 'nonsense', 'x');
    }).toThrow(/^fsconfig: EINVAL \(nonsense=x: .*Unknown parameter 'nonsense'\)$/);
  });

  test('works on a worker thread', async () => {
    const built = await build();
    const modules = new URL('../../dist/', import.meta.url).href;
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      (async () => {
        const { Stage } = await import(workerData.modules + 'sys/stage.js');
        const { probeFeatures } = await import(workerData.modules + 'sys/probe.js');
        const stage = Stage.open('locked');
        const features = probeFeatures({ ...workerData.input, stage });
        stage.close();
        parentPort.postMessage(features);
      })();`;
    const worker = new Worker(code, {
      eval: true,
      trackUnmanagedFds: false,
      workerData: { modules, input: { scratchDirectory: built.directory, image: built.image } },
    });
    const found = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await worker.terminate();
    using stage = Stage.open();
    expect(found).toEqual(probeFeatures({ scratchDirectory: built.directory, image: built.image, stage }));
    expect(statSync(built.imagePath).isFile()).toBe(true);
  });
});
