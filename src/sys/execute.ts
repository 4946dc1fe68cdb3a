import type { ByteRange } from '../mount/byte-range.ts';
import type { PathRef, Plan, Ref, Step } from '../mount/plan.ts';
import type { VerityTable } from '../mount/verity-table.ts';
import { openVerityDevice } from './device-mapper.ts';
import type { OwnedFd } from './fd.ts';
import { mapIds } from './id-mapping.ts';
import { attachLoop } from './loop.ts';
import * as calls from './mount-calls.ts';
import { descriptorPath } from './path.ts';
import type { Attached, Stage } from './stage.ts';

/** A name, without a slash, for what a descriptor refers to. */
export interface Named {
  readonly name: string;
  readonly fd: number;
}

/** The calls that plans are made of. Each throws SyscallError where the kernel refuses. */
export interface Kernel {
  fsopen(fileSystem: string): OwnedFd;
  fsconfigFlag(context: number, key: string): void;
  fsconfigString(context: number, key: string, value: string): void;
  fsconfigFd(context: number, key: string, fd: number): void;
  fsconfigCreate(context: number): void;
  fsconfigCreateExclusive(context: number): void;
  /** Runs `create` while `name` leads to `fd`, looked up in the thread's working directory. */
  named({ name, fd }: Named, create: () => void): void;
  fsmount(context: number, attributes: number): OwnedFd;
  cloneTree(mount: number): OwnedFd;
  /** Throws KernelUnsupportedError where the filesystem cannot be ID-mapped. */
  mapIds(mount: number, userNamespaceFd: number): void;
  /** A loop device that shows `file`, or the range of it; it is freed with its last user. */
  attachLoop(file: number, range?: ByteRange): OwnedFd;
  /** A device that shows what `data` does, checked by `hashes`; it goes with its last user. */
  openVerityDevice(data: number, hashes: number, table: VerityTable): OwnedFd;
  attach(mount: OwnedFd): Attached;
  lock(mount: OwnedFd): OwnedFd;
  /** Takes over a mount that is no longer wanted. */
  discard(mount: OwnedFd): void;
}

// Picked once: spreading a module's namespace for every mount takes longer than most of its calls.
const {
  fsopen,
  fsconfigFlag,
  fsconfigString,
  fsconfigFd,
  fsconfigCreate,
  fsconfigCreateExclusive,
  fsmount,
  cloneTree,
} = calls;

/** The running kernel, with `stage` for what needs one. */
export function linuxKernel(stage: Stage): Kernel {
  return {
    fsopen,
    fsconfigFlag,
    fsconfigString,
    fsconfigFd,
    fsconfigCreate,
    fsconfigCreateExclusive,
    fsmount,
    cloneTree,
    mapIds,
    attachLoop,
    openVerityDevice,
    named: ({ name, fd }, create) => {
      stage.named(name, descriptorPath(fd), create);
    },
    attach: (mount) => stage.attach(mount),
    lock: (mount) => stage.lock(mount),
    discard: (mount) => {
      stage.discard(mount);
    },
  };
}

/**
 * Executes `plan` on `stage` in this thread, and answers with the mount. Call stage.sweep() some time after. Throws
 * SyscallError; then nothing is left but what the sweep takes away.
 */
export function mountOnStage(plan: Plan, stage: Stage): OwnedFd {
  const kernel = linuxKernel(stage);
  // COMPAT(6.15): layers by path are looked up in the mount namespace of the thread.
  const byPath = plan.steps.some(({ step }) => step === 'attach');
  return byPath ? stage.inside(() => execute(plan, kernel)) : execute(plan, kernel);
}

/**
 * Executes the steps of `plan` one after another, and answers with the descriptor of its result. Every other descriptor
 * that a step has made is closed, or discarded where it is a mount's, whether the steps succeed or one throws. Decides nothing.
 */
export function execute(plan: Plan, kernel: Kernel): OwnedFd {
  using made = new Made(kernel);
  for (const step of plan.steps) perform(step, made, kernel);
  return made.slot(plan.result).moved();
}

/** What the steps have made so far. */
class Made implements Disposable {
  readonly #kernel: Kernel;
  readonly #slots = new Map<string, OwnedFd>();
  readonly #mounts: OwnedFd[] = [];
  readonly #attached = new Map<string, Attached>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  putMount(name: string, mount: OwnedFd): void {
    this.#mounts.push(mount);
    this.put(name, mount);
  }

  put(name: string, fd: OwnedFd): void {
    this.#slots.set(name, fd);
  }

  putAttached(name: string, attached: Attached): void {
    this.#attached.set(name, attached);
  }

  slot(name: string): OwnedFd {
    return found(this.#slots, name);
  }

  fd(ref: Ref): number {
    return 'fd' in ref ? ref.fd : this.slot(ref.slot).number;
  }

  path(ref: PathRef): string {
    return 'attached' in ref ? found(this.#attached, ref.attached).path : descriptorPath(this.fd(ref));
  }

  [Symbol.dispose](): void {
    for (const attached of this.#attached.values()) attached.detach();
    for (const mount of this.#mounts) if (mount.isOpen) this.#kernel.discard(mount.moved());
    // In the opposite order, so that nothing is closed that another still stands on.
    for (const fd of [...this.#slots.values()].reverse()) fd.close();
  }
}

function found<Value>(map: ReadonlyMap<string, Value>, name: string): Value {
  const value = map.get(name);
  if (value === undefined) throw new Error(`the plan uses "${name}" before a step makes it`);
  return value;
}

function create(step: Extract<Step, { step: 'create' }>, made: Made, kernel: Kernel): void {
  const context = made.slot(step.context).number;
  if (step.exclusive) kernel.fsconfigCreateExclusive(context);
  else kernel.fsconfigCreate(context);
}

// The separators, and what stands for one that is part of a path: Documentation/filesystems/overlayfs.rst.
function lowerdir({ layers, data }: Extract<Step, { step: 'layers' }>, made: Made): string {
  const escaped = (ref: PathRef): string => made.path(ref).replace(/[\\:]/g, '\\$&');
  return [layers.map(escaped).join(':'), ...data.map(escaped)].join('::');
}

function perform(step: Step, made: Made, kernel: Kernel): void {
  const context = (name: string): number => made.slot(name).number;
  switch (step.step) {
    case 'fsopen':
      made.put(step.into, kernel.fsopen(step.fileSystem));
      return;
    case 'flag':
      kernel.fsconfigFlag(context(step.context), step.key);
      return;
    case 'string':
      kernel.fsconfigString(context(step.context), step.key, step.value);
      return;
    case 'path':
      kernel.fsconfigString(context(step.context), step.key, made.path(step.value));
      return;
    case 'descriptor':
      kernel.fsconfigFd(context(step.context), step.key, made.fd(step.value));
      return;
    case 'create':
      if (step.named === undefined) create(step, made, kernel);
      else
        kernel.named({ name: step.named.name, fd: made.fd(step.named.value) }, () => {
          create(step, made, kernel);
        });
      return;
    case 'layers':
      kernel.fsconfigString(context(step.context), 'lowerdir', lowerdir(step, made));
      return;
    case 'loop':
      made.put(step.into, kernel.attachLoop(step.file, step.range));
      return;
    case 'verity':
      made.put(step.into, kernel.openVerityDevice(context(step.data), context(step.hashes), step.table));
      return;
    case 'fsmount':
      made.putMount(step.into, kernel.fsmount(context(step.context), step.attributes));
      return;
    case 'clone':
      made.putMount(step.into, kernel.cloneTree(step.mount));
      return;
    case 'idmap':
      kernel.mapIds(context(step.mount), step.userNamespaceFd);
      return;
    case 'attach':
      made.putAttached(step.into, kernel.attach(made.slot(step.mount)));
      return;
    case 'lock':
      made.put(step.into, kernel.lock(made.slot(step.mount)));
      return;
  }
}
