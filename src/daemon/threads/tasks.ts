import type { Digest } from '../../base/digest.ts';
import type { PlanInput } from '../../mount/plan.ts';
import type { MountedPartition } from '../../ddi/mounted-partition.ts';
import type { UnscannedFileSystem } from '../../trust/file-system.ts';
import type { Features } from '../../mount/features.ts';
import type { Leavings } from '../../sys/stage.ts';
import type { Failure } from './failures.ts';
import type { FileFacts, Slice } from './object-files.ts';
import type { ObjectTable, ScannedImage } from './object-table.ts';

/** A task without its descriptors: plain data that passes to a mounting thread. Descriptors go beside it, as `fds`. */
export type Task =
  /** fds [memfd] → [copy]: copies an image into an unlinked file below `directory` and measures what was copied. */
  | { readonly kind: 'copy'; readonly directory: string; readonly bytes: number }
  /** fds [file] → [the same file, opened anew]: takes a file with fs-verity on a local filesystem. */
  | { readonly kind: 'takeVerity'; readonly field: string }
  /** fds [file] → []: measures a file that cannot change by reading it. */
  | { readonly kind: 'measure'; readonly bytes: number }
  /** fds [image] → []: what must be known of an image before the kernel parses it. */
  | { readonly kind: 'scan'; readonly bytes: number }
  /** fds [image] → []: throws IncompatibleImage where its superblock is not that of `fileSystem`, alone and whole. */
  | { readonly kind: 'identify'; readonly bytes: number; readonly fileSystem: UnscannedFileSystem }
  /** fds [image] → []: what is to be mounted of a disk image. */
  | { readonly kind: 'dissect'; readonly bytes: number }
  /** fds [a directory each] → []: what kind of directories they are. */
  | { readonly kind: 'inspect' }
  /** fds [the peer's pidfd, directory] → [detached clone of the directory]. */
  | { readonly kind: 'clone' }
  /** fds [a store each] → []: which of `objects`, from the place `from` up to `to`, no store has. */
  | {
      readonly kind: 'missing';
      readonly objects: ObjectTable;
      readonly from: number;
      readonly to: number;
      readonly verity: readonly boolean[];
      readonly listed: number;
    }
  /** fds [a client's file each] → []: what they claim to be; `fields` are what errors call them. */
  | { readonly kind: 'examine'; readonly fields: readonly string[] }
  /** fds [store] → [a new file each, without a name], where `bytes` bytes have room. */
  | { readonly kind: 'makeFiles'; readonly count: number; readonly bytes: number }
  /** fds [a client's file each, then a new file each] → []: copies a slice of each. */
  | { readonly kind: 'fillFiles'; readonly slices: readonly Slice[] }
  /** fds [a filled file each] → []: measures them; `sizes` are theirs. */
  | { readonly kind: 'measureFiles'; readonly sizes: readonly number[] }
  /** fds [store, a filled file each] → []: gives them their names. */
  | { readonly kind: 'keepFiles'; readonly paths: readonly string[] }
  /** fds [] → []: brings the record of a handed-out image up to date, where there is one. */
  | {
      readonly kind: 'renewRecord';
      readonly stateDirectory: string;
      readonly digest: Digest;
      readonly hasObjects: boolean;
      readonly now: number;
    }
  /** fds [] → []: records a handed-out image. */
  | {
      readonly kind: 'record';
      readonly stateDirectory: string;
      readonly digest: Digest;
      readonly objects: ObjectTable;
      readonly now: number;
    }
  /** fds [] → []: removes records that nobody needs any more. */
  | { readonly kind: 'pruneRecords'; readonly stateDirectory: string; readonly now: number }
  /** fds [] → []: takes away what the stage of another thread has left. */
  | { readonly kind: 'sweep'; readonly leavings: Leavings }
  /** fds [image, ID map's user namespace if `idMap`, a store each] → [locked mount]. */
  | {
      readonly kind: 'mount';
      readonly input: Omit<PlanInput, 'imageFd' | 'stores' | 'userNamespaceFd'>;
      /** For each store, whether only root can write it. */
      readonly trusted: readonly boolean[];
      /** COMPAT(6.15): the stores by path, opened on the thread's own stage, instead of descriptors. */
      readonly storePaths: readonly string[] | undefined;
      readonly idMap: boolean;
      readonly features: Features;
    };

/** A directory that a client brought, as the kernel says. */
export interface DirectoryFacts {
  readonly device: bigint;
  readonly inode: bigint;
  /** Whether it is a directory, and its descriptor one that can be used as such. */
  readonly directory: boolean;
  /** The filesystem's magic number, as fstatfs(2) has it. */
  readonly magic: number;
}

/** Objects that no store has: how many, and the first of them. */
export interface MissingObjects {
  readonly count: number;
  readonly objects: readonly string[];
  /** What keeps objects that were found from being used ("are there without fs-verity"); the first such reason. */
  readonly unfit: string | undefined;
}

/** What each kind of task answers, besides descriptors. */
export interface TaskValues {
  readonly copy: { readonly digest: Digest };
  readonly takeVerity: {
    readonly digest: Digest;
    readonly bytes: number;
    readonly signature: Uint8Array | undefined;
  };
  readonly measure: { readonly digest: Digest };
  readonly scan: { readonly scan: ScannedImage };
  readonly identify: Record<string, never>;
  readonly dissect: { readonly root: MountedPartition };
  readonly inspect: { readonly directories: readonly DirectoryFacts[] };
  readonly clone: Record<string, never>;
  readonly missing: MissingObjects;
  readonly examine: { readonly files: readonly FileFacts[] };
  readonly makeFiles: Record<string, never>;
  readonly fillFiles: Record<string, never>;
  readonly measureFiles: { readonly digests: readonly Digest[] };
  /** For each file whether there was none of its name before. */
  readonly keepFiles: { readonly isNew: readonly boolean[] };
  readonly renewRecord: { readonly found: boolean };
  readonly record: Record<string, never>;
  readonly pruneRecords: { readonly removed: number };
  readonly sweep: Record<string, never>;
  readonly mount: Record<string, never>;
}

/** The name of a kind of task. */
export type TaskKind = Task['kind'];

/** The task of one kind. */
export type TaskOf<Kind extends TaskKind> = Extract<Task, { readonly kind: Kind }>;

/** A task's answer: descriptors that now belong to whoever asked, and a value. */
export interface TaskResult<Kind extends TaskKind> {
  readonly fds: readonly number[];
  readonly value: TaskValues[Kind];
}

/** What the pool sends to a thread. The descriptors belong to the pool and are borrowed until the answer. */
export interface TaskMessage {
  readonly task: Task;
  readonly fds: readonly number[];
}

/** What a thread answers. */
export type TaskAnswer =
  | { readonly ok: true; readonly result: TaskResult<TaskKind> }
  | { readonly ok: false; readonly failure: Failure };
