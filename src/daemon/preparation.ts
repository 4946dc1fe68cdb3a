import { setImmediate } from 'node:timers/promises';
import type { Policy, VerityLevel } from '../policy/policy.ts';
import { isSyscallError } from '../sys/errno.ts';
import { isScanned, type FileSystem } from '../trust/file-system.ts';
import type { Verification } from '../trust/verify.ts';
import { VarlinkError } from '../varlink/error.ts';
import type { Log } from './calls/audit.ts';
import type { EvidenceCache } from './images/evidence.ts';
import { imageNames, NotTrusted } from './images/image-folders.ts';
import type { Images, TakenImage } from './images/images.ts';
import { limits } from './callers/limits.ts';
import type { Mounter } from './mounts/mounter.ts';
import { service } from './callers/owner.ts';
import type { Policies } from './policies.ts';

/** What preparing needs. */
export interface PreparationOptions {
  readonly policies: Policies;
  readonly images: Images;
  readonly evidence: EvidenceCache;
  readonly mounter: Mounter;
  readonly log: Log;
}

/** Stores that a rule lets images use, and how it wants their files checked. */
interface RuleStores {
  readonly stores: readonly string[];
  readonly verity: VerityLevel;
}

const owner = service.measuring;

/**
 * Does for the installed images, before anybody asks, what need be done only once: measures them, verifies their
 * signatures, reads those that somebody vouches for, and looks for their objects. One after another, so that requests
 * come first; it decides nothing, and what is wrong with an image is for the request to find.
 */
export class Preparation {
  readonly #options: PreparationOptions;
  #stopped = false;

  constructor(options: PreparationOptions) {
    this.#options = options;
  }

  /** Prepares for the policy in force, until it is another. */
  begin(): void {
    this.#run().catch((error: unknown) => {
      this.#options.log.error({ err: error }, 'installed images could not be prepared');
    });
  }

  /** Begins nothing any more. */
  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    const { policies, log } = this.#options;
    // Whoever put the policy into force is answered first.
    await setImmediate();
    const { policy, generation } = policies.current;
    const found = await Promise.all(policy.imageDirectories.map((directory) => imageNames(directory)));
    const names = new Set(found.flat());
    const counts = { prepared: 0, passedOver: 0 };
    for (const name of [...names].slice(0, limits.installedImagesOpen)) {
      await setImmediate();
      if (this.#stopped || policies.generation !== generation) return;
      if (await this.#attempt(name, policy)) counts.prepared += 1;
      else counts.passedOver += 1;
    }
    if (this.#stopped || policies.generation !== generation) return;
    await this.#options.images.index(policy);
    log.info({ ...counts, generation }, 'installed images prepared');
  }

  async #attempt(name: string, policy: Policy): Promise<boolean> {
    try {
      using image = await this.#options.images.take({ kind: 'name', name }, owner, policy);
      return await this.#prepare(image, policy);
    } catch (error) {
      if (this.#stopped) return false;
      if (error instanceof VarlinkError || error instanceof NotTrusted || isSyscallError(error)) {
        this.#options.log.debug({ name, reason: error.message }, 'an installed image cannot be prepared');
        return false;
      }
      throw error;
    }
  }

  async #prepare(image: TakenImage, policy: Policy): Promise<boolean> {
    const { evidence, mounter } = this.#options;
    const verification = evidence.verify(image.signatureFiles, image.digest, policy);
    // Our own reader is no safer than others where nobody has vouched for what it reads.
    if (!isVouchedFor(image, verification, policy)) return false;
    const stated = statedFileSystem(verification);
    if (stated !== undefined && !isScanned(stated)) {
      await image.contents(stated);
      return true;
    }
    const scan = await image.scan();
    if (scan.fileSystem !== 'composefs') return true;
    for (const { stores, verity } of storesOfRules(policy)) {
      const chosen = stores.flatMap((store) => policy.stores.get(store) ?? []);
      await mounter.prepare(image, scan, chosen, verity, owner);
    }
    return true;
  }
}

/** What those say who vouch for the image, where they say one thing. */
function statedFileSystem({ statements }: Verification): FileSystem | undefined {
  const vouched = statements.filter(({ signers }) => signers.length > 0);
  const [fileSystem, ...others] = new Set(vouched.map(({ statement }) => statement.fileSystem));
  return others.length === 0 ? fileSystem : undefined;
}

function isVouchedFor(image: TakenImage, verification: Verification, policy: Policy): boolean {
  const { statements, digestSignatures } = verification;
  if ([...statements, ...digestSignatures].some(({ signers }) => signers.length > 0)) return true;
  return policy.rules.some(({ digests, locations }) => {
    const installed = locations?.some((folder) => image.location?.startsWith(`${folder}/`) === true);
    return digests?.has(image.digest) === true || installed === true;
  });
}

/** Each combination once. */
function storesOfRules(policy: Policy): readonly RuleStores[] {
  const found = new Map<string, RuleStores>();
  for (const { stores, verity, fileSystems } of policy.rules) {
    if (stores.length === 0 || !fileSystems.includes('composefs')) continue;
    found.set([verity, ...stores].join('\n'), { stores, verity });
  }
  return [...found.values()];
}
