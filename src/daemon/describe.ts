import type { DescribeReply } from '../api/mount-delegation.ts';
import type { Features } from '../mount/features.ts';
import { deviceFileSystems } from '../mount/file-systems.ts';
import type { Policy } from '../policy/policy.ts';
import { hasFileSystem } from '../sys/mount-calls.ts';
import type { FileSystem } from '../trust/file-system.ts';
import type { Confinement } from './confine.ts';
import { limits } from './callers/limits.ts';
import type { Policies } from './policies.ts';

/** What this service can do here, as Describe answers it. */
export function describe(
  { version, confinement }: { readonly version: string; readonly confinement: Confinement },
  features: Features,
  policies: Policies,
): DescribeReply {
  const { policy, loadedAt } = policies.current;
  const { lastError } = policies;
  return {
    version,
    kernel: { ...features },
    fileSystems: fileSystems(features, policy),
    limits: { ...limits },
    confinement: { capabilities: [...confinement.capabilities], fences: [...confinement.fences] },
    policy: {
      digest: policy.digest,
      loadedAt: loadedAt.toISOString(),
      ...(lastError !== undefined && { lastError }),
    },
  };
}

/**
 * What can be mounted on this kernel. A composefs image is an EROFS image with an overlay over it. Of the others only those
 * are asked for that a rule lets in: asking loads their modules. What a disk image holds has to be among these, or EROFS.
 */
function fileSystems(features: Features, { rules }: Policy): string[] {
  if (!features.lockedMounts || !(features.erofsFromFile || features.loopDevices)) return [];
  const wanted = (fileSystem: FileSystem): boolean =>
    rules.some((rule) => rule.unscanned && rule.fileSystems.includes(fileSystem));
  return [
    ...(features.overlayDataOnly ? ['composefs'] : []),
    'erofs',
    ...(features.loopDevices ? deviceFileSystems.filter((name) => wanted(name) && hasFileSystem(name)) : []),
    ...(features.loopDevices && wanted('ddi') ? ['ddi'] : []),
  ];
}
