import { IncompatibleImage } from '../../api/mount-delegation.ts';
import { ImageError } from '../../composefs/errors.ts';
import { scanImage } from '../../composefs/scan.ts';
import { DiskImageError } from '../../ddi/errors.ts';
import { nativeArchitecture } from '../../ddi/native-architecture.ts';
import { findMountedPartition, type MountedPartition } from '../../ddi/mounted-partition.ts';
import type { PlanInput } from '../../mount/plan.ts';
import { formatObjects, HandedOutImages } from '../../store/handed-out.ts';
import { mountedImages } from '../../store/mounted-images.ts';
import { headBytes } from '../../superblock/recognise.ts';
import { SuperblockInvalid } from '../../superblock/superblock-invalid.ts';
import { demandSuperblock } from '../../superblock/read-superblock.ts';
import { isSyscallError } from '../../sys/errno.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { fileSystemMagic, fstat, openFile } from '../../sys/file.ts';
import { fileSource } from '../../sys/file-source.ts';
import { cloneTree } from '../../sys/mount-calls.ts';
import type { Stage } from '../../sys/stage.ts';
import { copyMeasured, measureFile, readWhole } from './copy-image.ts';
import { missingObjects } from './missing-objects.ts';
import { objectsOf, pathsOf, tabulate } from './object-table.ts';
import { examineFiles, fillFiles, keepFiles, makeFiles, measureFiles } from './object-files.ts';
import { mountImage } from './mount-image.ts';
import type { DirectoryFacts, Task, TaskKind, TaskOf, TaskResult } from './tasks.ts';
import { takeVerityFile } from './verity-file.ts';

/**
 * Does one task in the thread that calls. `fds` are borrowed; descriptors in the result belong to the caller.
 * `openStage` gives the thread's stage. Throws what the task throws (failures.ts carries it on).
 */
export function perform(task: Task, fds: readonly number[], openStage: () => Stage): TaskResult<TaskKind> {
  switch (task.kind) {
    case 'copy': {
      const { copy, digest } = copyMeasured(at(fds, 0), task.bytes, task.directory);
      return { fds: [copy.take()], value: { digest } };
    }
    case 'takeVerity': {
      const { file, digest, bytes, signature } = takeVerityFile(at(fds, 0), task.field);
      return { fds: [file.take()], value: { digest, bytes, signature } };
    }
    case 'measure':
      return { fds: [], value: { digest: measureFile(at(fds, 0), task.bytes) } };
    case 'scan':
      return { fds: [], value: { scan: tabulate(scan(readWhole(at(fds, 0), task.bytes))) } };
    case 'identify':
      identify(at(fds, 0), task);
      return { fds: [], value: {} };
    case 'dissect':
      return { fds: [], value: { root: dissect(at(fds, 0), task.bytes) } };
    case 'inspect':
      return { fds: [], value: { directories: fds.map(inspect) } };
    case 'clone':
      return { fds: [clone(at(fds, 0), at(fds, 1), openStage()).take()], value: {} };
    case 'missing': {
      const stores = task.verity.map((verity, index) => ({ fd: at(fds, index), verity }));
      const objects = objectsOf(task.objects, task.from, task.to);
      return { fds: [], value: missingObjects(stores, objects, task.listed) };
    }
    case 'examine':
      return { fds: [], value: { files: examineFiles(fds, task.fields) } };
    case 'makeFiles': {
      const made = makeFiles(at(fds, 0), task.count, task.bytes);
      return { fds: made.map((file) => file.take()), value: {} };
    }
    case 'fillFiles': {
      const { length } = task.slices;
      fillFiles(fds.slice(0, length), fds.slice(length), task.slices);
      return { fds: [], value: {} };
    }
    case 'measureFiles':
      return { fds: [], value: { digests: measureFiles(fds, task.sizes) } };
    case 'keepFiles':
      return { fds: [], value: { isNew: keepFiles(at(fds, 0), fds.slice(1), task.paths) } };
    case 'renewRecord': {
      const records = new HandedOutImages(task.stateDirectory);
      return { fds: [], value: { found: records.renew(task.digest, task.hasObjects, task.now) } };
    }
    case 'record':
      new HandedOutImages(task.stateDirectory).record(
        task.digest,
        formatObjects(pathsOf(task.objects)),
        task.now,
      );
      return { fds: [], value: {} };
    case 'pruneRecords': {
      const records = new HandedOutImages(task.stateDirectory);
      return { fds: [], value: { removed: records.prune(mountedImages, task.now) } };
    }
    case 'sweep':
      openStage().sweepFor(task.leavings);
      return { fds: [], value: {} };
    case 'mount':
      return { fds: [mount(task, fds, openStage())], value: {} };
  }
}

/** Scans an image. What is wrong with it is the interface's IncompatibleImage, with the offset. */
export function scan(image: Uint8Array): ReturnType<typeof scanImage> {
  try {
    return scanImage(image);
  } catch (error) {
    if (error instanceof ImageError) throw new IncompatibleImage({ reason: error.message });
    throw error;
  }
}

function identify(fd: number, { bytes, fileSystem }: TaskOf<'identify'>): void {
  try {
    demandSuperblock(fileSystem, readWhole(fd, Math.min(bytes, headBytes)), bytes);
  } catch (error) {
    if (error instanceof SuperblockInvalid) throw new IncompatibleImage({ reason: error.message });
    throw error;
  }
}

/** What is to be mounted of a disk image. What is wrong with it is IncompatibleImage, with the offset. */
function dissect(fd: number, bytes: number): MountedPartition {
  try {
    return findMountedPartition(fileSource(fd, bytes), nativeArchitecture(process.arch));
  } catch (error) {
    if (error instanceof DiskImageError) throw new IncompatibleImage({ reason: error.message });
    throw error;
  }
}

function inspect(fd: number): DirectoryFacts {
  const found = fstat(fd);
  return {
    device: found.dev,
    inode: found.ino,
    directory: found.isDirectory(),
    magic: fileSystemMagic(fd),
  };
}

/** A clone of a directory from our own mount namespace, or else from that of the peer. */
function clone(pidfd: number, directory: number, stage: Stage): OwnedFd {
  try {
    return cloneTree(directory);
  } catch (error) {
    if (!isSyscallError(error, 'EINVAL')) throw error;
    return stage.cloneFrom(pidfd, directory);
  }
}

function mount(task: TaskOf<'mount'>, fds: readonly number[], stage: Stage): number {
  const stores = task.idMap ? fds.slice(2) : fds.slice(1);
  const make = (storeFds: readonly number[]): OwnedFd => {
    const input: PlanInput = {
      ...task.input,
      imageFd: at(fds, 0),
      stores: task.trusted.map((trusted, index) => ({ fd: at(storeFds, index), trusted })),
      ...(task.idMap ? { userNamespaceFd: at(fds, 1) } : {}),
    };
    return mountImage(input, task.features, stage);
  };
  if (task.storePaths === undefined) return make(stores).take();
  return mountByPath(task.storePaths, make, stage);
}

/** COMPAT(6.15): the stores have to be opened in the mount namespace in which the layers are looked up. */
function mountByPath(
  paths: readonly string[],
  make: (fds: readonly number[]) => OwnedFd,
  stage: Stage,
): number {
  const opened: OwnedFd[] = [];
  try {
    stage.inside(() => {
      for (const path of paths) opened.push(openFile(path, { directory: true }));
    });
    return make(opened.map((store) => store.number)).take();
  } finally {
    for (const store of opened) store.close();
  }
}

function at(fds: readonly number[], index: number): number {
  const fd = fds[index];
  if (fd === undefined) throw new RangeError(`the task has no descriptor ${index}`);
  return fd;
}
