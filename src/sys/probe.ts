import { noFeatures } from '../mount/features.ts';
import type { Features } from '../mount/features.ts';
import { KernelUnsupportedError, planMount } from '../mount/plan.ts';
import type { PlanInput } from '../mount/plan.ts';
import { digestFromBytes } from '../base/digest.ts';
import { hasVerityTarget } from './device-mapper.ts';
import { isSyscallError } from './errno.ts';
import { mountOnStage } from './execute.ts';
import type { OwnedFd } from './fd.ts';
import { openFile, openTmpfile, reopen, writeAll } from './file.ts';
import { makeNamespaces } from './idle-child.ts';
import { attachLoop } from './loop.ts';
import * as calls from './mount-calls.ts';
import type { Attached, Stage } from './stage.ts';
import { enableVerity } from './verity.ts';

const NODEV = 0x4;

/** What probes need. */
export interface ProbeInput {
  /** A folder on the filesystem on which images are going to lie, and that root alone can write. */
  readonly scratchDirectory: string;
  /** Bytes of any small EROFS image. */
  readonly image: Uint8Array;
  readonly stage: Stage;
}

/**
 * Finds out what this kernel can do by doing it, on the thread of `stage`. Each trial stands alone, and one that fails
 * is a feature that is missing. Nothing is left behind.
 */
export function probeFeatures(input: ProbeInput): Features {
  const { stage } = input;
  const image = writeImage(input);
  try {
    const found = {
      ...noFeatures,
      erofsFromFile: works(() => {
        mountErofs(image.number).close();
      }),
      loopDevices: works(() => {
        using loop = attachLoop(image.number);
        mountErofs(loop.number).close();
      }),
      verityDevices: hasVerityTarget(),
      idmappedErofs: works(() => {
        mapErofs(image.number);
      }),
      overlayLowerdirPlus: works(() => {
        mergeByPath(stage, (context, paths) => {
          for (const path of paths) calls.fsconfigString(context, 'lowerdir+', path);
        });
      }),
      overlayLayersByFd: works(() => {
        trialContext('overlay', (context) => {
          using layer = openFile(input.scratchDirectory, { directory: true });
          calls.fsconfigFd(context, 'lowerdir+', layer.number);
        });
      }),
      overlayDetachedLayers: works(() => {
        trialContext('overlay', mergeDetachedLayers);
      }),
      overlayVerity: works(() => {
        mergeByPath(stage, (context, paths) => {
          calls.fsconfigString(context, 'lowerdir', paths.join(':'));
          calls.fsconfigString(context, 'verity', 'on');
        });
      }),
      fsVerity: works(() => {
        sealByVerity(input);
      }),
      createExclusive: works(() => {
        trialContext('tmpfs', calls.fsconfigCreateExclusive);
      }),
      lockedMounts: works(() => {
        using mount = mountTmpfs(NODEV);
        using locked = stage.lock(mount);
        demandLocked(locked);
      }),
      lockedClones: works(() => {
        using mount = mountTmpfs(NODEV);
        using locked = stage.lock(mount);
        using clone = stage.clone(locked.number);
        demandLocked(clone);
      }),
    };
    const dataOnly = {
      ...found,
      overlayDataOnly: works(() => {
        mountComposefs(image.number, { ...found, overlayDataOnly: true }, stage).close();
      }),
    };
    return {
      ...dataOnly,
      overlayOverFileImages: works(() => {
        stackOverlays(image.number, dataOnly, stage);
      }),
    };
  } finally {
    image.close();
    stage.sweep();
  }
}

/** A trial that did not throw, but did not do what it was for either. */
class TrialFailed extends Error {}

// Whatever the kernel refuses is missing. Anything else is a bug, and is not to look like an old kernel.
function works(trial: () => void): boolean {
  try {
    trial();
    return true;
  } catch (error) {
    if (isSyscallError(error) || error instanceof TrialFailed) return false;
    // A trial that stands on what has just been found to be missing.
    if (error instanceof KernelUnsupportedError) return false;
    throw error;
  }
}

function writeImage(input: ProbeInput): OwnedFd {
  using file = openTmpfile(input.scratchDirectory);
  writeAll(file.number, input.image);
  return reopen(file.number);
}

function trialContext(fileSystem: string, use: (context: number) => void): void {
  using context = calls.fsopen(fileSystem);
  use(context.number);
}

function mountErofs(image: number): OwnedFd {
  using context = calls.fsopen('erofs');
  calls.fsconfigFlag(context.number, 'ro');
  calls.fsconfigDescriptorPath(context.number, 'source', image);
  calls.fsconfigCreate(context.number);
  return calls.fsmount(context.number, 0);
}

function mapErofs(image: number): void {
  const { user, mount } = makeNamespaces();
  mount.close();
  try {
    using erofs = mountAnyErofs(image);
    calls.mountSetattr(erofs.number, { userNamespaceFd: user.number });
  } finally {
    user.close();
  }
}

// COMPAT(6.12): the trial is of ID mapping, not of where the image comes from.
function mountAnyErofs(image: number): OwnedFd {
  try {
    return mountErofs(image);
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    using loop = attachLoop(image);
    return mountErofs(loop.number);
  }
}

function mountTmpfs(attributes: number): OwnedFd {
  using context = calls.fsopen('tmpfs');
  calls.fsconfigCreate(context.number);
  return calls.fsmount(context.number, attributes);
}

function mergeDetachedLayers(context: number): void {
  using upper = mountTmpfs(0);
  using lower = mountTmpfs(0);
  calls.fsconfigFd(context, 'lowerdir+', upper.number);
  calls.fsconfigFd(context, 'lowerdir+', lower.number);
  calls.fsconfigCreate(context);
}

type SetLayers = (context: number, paths: readonly string[]) => void;

// Before 6.5 overlayfs looks at its options only as the superblock is made, so that nothing less shows what it knows.
function merge(mounts: readonly OwnedFd[], stage: Stage, setLayers: SetLayers): void {
  const layers: Attached[] = [];
  try {
    for (const mount of mounts) layers.push(stage.attach(mount));
    stage.inside(() => {
      trialContext('overlay', (context) => {
        setLayers(
          context,
          layers.map(({ path }) => path),
        );
        calls.fsconfigCreate(context);
      });
    });
  } finally {
    for (const layer of layers) layer.detach();
  }
}

function mergeByPath(stage: Stage, setLayers: SetLayers): void {
  using upper = mountTmpfs(0);
  using lower = mountTmpfs(0);
  merge([upper, lower], stage, setLayers);
}

function sealByVerity(input: ProbeInput): void {
  using readable = writeImage(input);
  if (!enableVerity(readable.number)) throw new TrialFailed();
}

// nodev is on it, and stays on it.
function demandLocked(mount: OwnedFd): void {
  try {
    calls.mountSetattr(mount.number, { clear: NODEV });
  } catch (error) {
    if (isSyscallError(error, 'EPERM')) return;
    throw error;
  }
  throw new TrialFailed();
}

function mountComposefs(imageFd: number, features: Features, stage: Stage): OwnedFd {
  const input: PlanInput = {
    fileSystem: 'composefs',
    digest: digestFromBytes(new Uint8Array(32)),
    imageFd,
    stores: [],
    verity: 'never',
    attributes: [],
    lock: false,
  };
  return mountOnStage(planMount(input, features), stage);
}

function stackOverlays(imageFd: number, found: Features, stage: Stage): void {
  if (!found.erofsFromFile) throw new TrialFailed();
  using composefs = mountComposefs(imageFd, { ...found, overlayOverFileImages: true }, stage);
  using other = mountTmpfs(0);
  merge([composefs, other], stage, (context, paths) => {
    calls.fsconfigString(context, 'lowerdir', paths.join(':'));
  });
}
