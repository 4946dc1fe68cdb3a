import { mkdirSync } from 'node:fs';
import { writeImage } from '../composefs/write.ts';
import type { Features } from '../mount/features.ts';
import { decide } from '../policy/decide.ts';
import type { Policy } from '../policy/policy.ts';
import type { Evidence } from '../policy/question.ts';
import { removeLeftDevices } from '../sys/device-mapper.ts';
import { askKeyring } from '../sys/keyring.ts';
import { probeFeatures } from '../sys/probe.ts';
import { Stage } from '../sys/stage.ts';
import { Adder } from './adding/adder.ts';
import type { Log } from './calls/audit.ts';
import { Closing } from './connections/closing.ts';
import { Contents } from './images/contents.ts';
import { EvidenceCache } from './images/evidence.ts';
import type { Stages } from './handle.ts';
import type { HandedOver } from '../sys/handed-over.ts';
import { HandoutRecords } from './mounts/handout-records.ts';
import { Handouts, type MountRecord } from './callers/handouts.ts';
import { filterInPieces } from './threads/in-pieces.ts';
import { Images, measureOnPool } from './images/images.ts';
import { Installed } from './images/installed.ts';
import { KeptMounts } from './mounts/kept-mounts.ts';
import { limits } from './callers/limits.ts';
import { memoryIsShort } from './memory-pressure.ts';
import { Mounter } from './mounts/mounter.ts';
import type { Policies } from './policies.ts';
import { Pool } from './threads/pool.ts';
import { Preparation } from './preparation.ts';
import { ShownImages } from './images/shown-images.ts';
import { StoreClones } from './mounts/store-clones.ts';
import { Stores } from './mounts/stores.ts';
import { SuperblockWatches, type DescriptorStore } from './callers/superblock-watches.ts';
import { Sweeper } from './mounts/sweeper.ts';
import { Versions } from './versions.ts';

/** Everything that the stages of a request work with, built once. */
export interface Workshop extends Stages {
  readonly features: Features;
  readonly closing: Closing;
  /** Mounts to be cloned; undefined where the kernel cannot clone them. */
  readonly kept: KeptMounts | undefined;
  readonly sweeper: Sweeper;
  readonly preparation: Preparation;
  /** The mounts in use, as far as known, that `policy` would refuse if it were asked now. */
  refusedBy(policy: Policy): Promise<readonly Evidence[]>;
  /** Ends the threads and gives up what is kept open. Mounts that were handed out live on. */
  stop(): Promise<void>;
}

/** What the workshop is built for. */
export interface WorkshopOptions {
  readonly stateDirectory: string;
  readonly policies: Policies;
  readonly log: Log;
  /** What an earlier process had kept is among it. */
  readonly handed: readonly HandedOver[];
  /** Keeps what the next process is to have. */
  readonly descriptorStore: DescriptorStore;
}

/**
 * Builds it: probes the kernel, reads the newest versions, starts the first threads. From here on this thread has a
 * stage. Throws SyscallError, VersionsDamaged.
 */
export function openWorkshop(options: WorkshopOptions): Workshop {
  const { stateDirectory, policies, log } = options;
  mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
  const versions = new Versions(stateDirectory);
  const stage = Stage.open('locked');
  const features = probeFeatures({ scratchDirectory: stateDirectory, image: emptyImage(), stage });
  // Devices that a process before this one was killed over.
  if (features.verityDevices) removeLeftDevices();
  const closing = new Closing({ threads: limits.closers, idleThreads: 1 }, (error) => {
    log.error({ err: error }, 'bug in a closing thread');
  });
  const pool = new Pool({
    limits: {
      threads: limits.threads,
      threadsPerUser: limits.threadsPerUser,
      lostThreads: limits.lostThreads,
      waitingPerUser: limits.waitingTasksPerUser,
      stallMilliseconds: limits.stallMilliseconds,
    },
    closing,
    onBug: (error) => {
      log.error({ err: error }, 'bug in a mounting thread');
    },
  });
  const installed = new Installed(
    {
      images: limits.installedImagesOpen,
      imageBytes: limits.imageBytesInPlace,
      signatureFileBytes: limits.signatureFileBytes,
    },
    measureOnPool(pool),
  );
  process.on('SIGIO', () => {
    installed.releaseBroken();
  });
  const contents = new Contents({ entries: limits.contentsKept, bytes: limits.contentsBytesKept });
  const handouts = new Handouts(SuperblockWatches.open(options.handed, options.descriptorStore));
  if (handouts.inherited > 0) {
    log.info({ superblocks: handouts.inherited }, 'what an earlier process handed out is in use');
  }
  const clones = new StoreClones(stage, features.overlayDetachedLayers);
  const sweeper = new Sweeper(stage, pool);
  // COMPAT(6.15): without such clones each mount is made anew.
  const kept = features.lockedClones
    ? new KeptMounts({
        stage,
        memoryIsShort,
        discard: (mount) => {
          sweeper.discard(mount);
        },
      })
    : undefined;
  handouts.onShort(
    (user) => {
      kept?.drop((kind) => user === undefined || kind.user === user);
      stage.sweep();
    },
    () => sweeper.sweeping,
  );
  const records = new HandoutRecords({
    pool,
    stateDirectory,
    onFault: (error) => {
      log.warn({ err: error }, 'old records of what was handed out could not be removed');
    },
  });
  records.beginPruning();
  const mounter = new Mounter({
    stage,
    pool,
    features,
    handouts,
    contents,
    clones,
    kept,
    sweeper,
    records,
    objectsListed: limits.objectsListed,
    closing,
  });
  const images = new Images({
    pool,
    installed,
    contents,
    handouts,
    directory: stateDirectory,
    imageBytes: limits.imageBytes,
    imageBytesInPlace: limits.imageBytesInPlace,
    closing,
  });
  const evidence = new EvidenceCache(limits.evidenceKept, askKeyring);
  const preparation = new Preparation({ policies, images, evidence, mounter, log });
  return {
    policies,
    features,
    closing,
    versions,
    evidence,
    images,
    shown: new ShownImages(images, contents),
    preparation,
    stores: new Stores(pool),
    adder: new Adder({ pool, closing, records }),
    mounter,
    kept,
    sweeper,
    refusedBy: async (policy) => {
      const now = new Date();
      const refused = ({ question, files, rootHash }: MountRecord): boolean => {
        // Who signed is asked anew: by the policy's own keys.
        const verification = evidence.verify(files, question.digest, policy, rootHash);
        return decide(policy, { ...question, verification, now }).outcome === 'deny';
      };
      const inUse = handouts.live().flatMap((live) => live.records.map((record) => ({ live, record })));
      const found = await filterInPieces(inUse, ({ record }) => refused(record));
      // What is only kept is in nobody's use, and is wanted no more.
      const outlawed = new Set(found.map(({ live }) => live));
      kept?.drop((_kind, live) => live !== undefined && outlawed.has(live));
      await sweeper.settled();
      handouts.drain();
      const alive = new Set(handouts.live());
      return found.filter(({ live }) => alive.has(live)).map(({ record }) => record.evidence);
    },
    stop: async () => {
      preparation.stop();
      records.stop();
      closing.stop();
      await sweeper.stop();
      kept?.drop(() => true);
      await pool.stop();
      installed.close();
      clones.close();
      handouts.close();
      stage.close();
    },
  };
}

/** The smallest image: one folder with nothing in it. */
function emptyImage(): Uint8Array {
  const root = {
    type: 'directory',
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0n, nanoseconds: 0 },
    xattrs: [],
    entries: new Map(),
  } as const;
  return writeImage({ root }, { minVersion: 1, maxVersion: 1 });
}
