import type { Features } from '../../mount/features.ts';
import { planLayer, planMount, type Plan, type PlanInput } from '../../mount/plan.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { mountOnStage } from '../../sys/execute.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import type { Stage } from '../../sys/stage.ts';

/**
 * Mounts on `stage`. What was probed holds for the filesystem of the state folder; an image on another one, from whose
 * files EROFS does not mount (tmpfs, overlayfs), is mounted through a loop device; `beforeLoop` is called then. Throws
 * KernelUnsupportedError, SyscallError, and what `beforeLoop` throws.
 */
export function mountImage(
  input: PlanInput,
  features: Features,
  stage: Stage,
  beforeLoop?: () => void,
): OwnedFd {
  return byFileOrLoop(planMount, input, features, stage, beforeLoop);
}

/** As mountImage, but the EROFS layer of a composefs image alone, as `layerFd` of an input is to be. */
export function mountLayer(input: PlanInput, features: Features, stage: Stage): OwnedFd {
  return byFileOrLoop(planLayer, input, features, stage);
}

function byFileOrLoop(
  planned: (input: PlanInput, features: Features) => Plan,
  input: PlanInput,
  features: Features,
  stage: Stage,
  beforeLoop?: () => void,
): OwnedFd {
  const plan = planned(input, features);
  try {
    return mountOnStage(plan, stage);
  } catch (error) {
    if (!features.loopDevices || !isSyscallError(error, 'ENOTBLK')) throw error;
    beforeLoop?.();
    return mountOnStage(planned(input, { ...features, erofsFromFile: false }), stage);
  }
}
