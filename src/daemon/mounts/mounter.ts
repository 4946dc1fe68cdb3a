import { IncompatibleImage, KernelUnsupported } from '../../api/mount-delegation.ts';
import type { MountedPartition } from '../../ddi/mounted-partition.ts';
import type { Digest } from '../../base/digest.ts';
import type { Features } from '../../mount/features.ts';
import { isDeviceFileSystem } from '../../mount/file-systems.ts';
import { loopsOf, planMount, type PlanInput } from '../../mount/plan.ts';
import type { PolicyStore, VerityLevel } from '../../policy/policy.ts';
import type { Constraints, ImageContents } from '../../policy/question.ts';
import { misfit } from '../../policy/requirements.ts';
import { closeFd, OwnedFd } from '../../sys/fd.ts';
import type { Stage } from '../../sys/stage.ts';
import type { Owner } from '../callers/owner.ts';
import type { Contents } from '../images/contents.ts';
import type { HandoutRecords } from './handout-records.ts';
import type { Handouts, LiveMount, Reservation } from '../callers/handouts.ts';
import { resolveIdMap } from './id-map.ts';
import type { TakenImage } from '../images/images.ts';
import type { KeptKind, KeptMounts } from './kept-mounts.ts';
import { mountImage, mountLayer } from '../threads/mount-image.ts';
import type { MountOrder } from './mount-order.ts';
import { explained, foreignMount, objectsMissing } from './mount-refusals.ts';
import type { ScannedImage } from '../threads/object-table.ts';
import type { Pool, TaskOptions } from '../threads/pool.ts';
import type { OpenPolicyStore, StoreClones } from './store-clones.ts';
import { keepable } from './superblock-kind.ts';
import type { Sweeper } from './sweeper.ts';
import type { MissingObjects } from '../threads/tasks.ts';

/** What mounting needs. */
export interface MounterOptions {
  /** The stage of this thread. */
  readonly stage: Stage;
  readonly pool: Pool;
  readonly features: Features;
  readonly handouts: Handouts;
  readonly contents: Contents;
  readonly clones: StoreClones;
  /** Mounts to be cloned; undefined where the kernel cannot clone them (lockedClones). */
  readonly kept: KeptMounts | undefined;
  readonly sweeper: Sweeper;
  /** What is handed out, for whoever collects garbage, now and after this process. */
  readonly records: HandoutRecords;
  /** How many missing objects an error lists. */
  readonly objectsListed: number;
  /** Closes what may hang as it is closed. */
  readonly closing: { close(fds: readonly number[], owner: Owner): void };
}

/** A store as a layer, whoever brought it. */
type Layer = Omit<OpenPolicyStore, 'path'>;

/**
 * Makes mounts. Where image and stores are root's own local files and all is known of them, it is a few calls on the
 * loop's own stage, without a promise; what a client could hold up, or what takes long, is done on a mounting thread.
 */
export class Mounter {
  readonly #options: MounterOptions;

  constructor(options: MounterOptions) {
    this.#options = options;
  }

  /**
   * A detached mount, locked against its receiver. Throws or rejects with IncompatibleImage, ObjectsMissing,
   * StoreNotFound, BadFileDescriptor, LimitExceeded, TimedOut, KernelUnsupported(Error), SyscallError.
   */
  mount(order: MountOrder): Promise<OwnedFd> | OwnedFd {
    const { fileSystem } = order.constraints;
    if (isDeviceFileSystem(fileSystem)) {
      const contents = order.image.contents(fileSystem);
      return contents instanceof Promise
        ? contents.then((read) => this.#whole(order, read))
        : this.#whole(order, contents);
    }
    if (fileSystem === 'ddi') {
      const root = order.image.disk();
      return root instanceof Promise
        ? root.then((found) => this.#disk(order, found))
        : this.#disk(order, root);
    }
    const scan = order.image.scan();
    return scan instanceof Promise
      ? scan.then((read) => this.#checked(order, read))
      : this.#checked(order, scan);
  }

  /** An image that is mounted as it is, and of which nothing is known but its superblock. */
  #whole(order: MountOrder, contents: ImageContents): Promise<OwnedFd> | OwnedFd {
    const input = inputOf(order, checkContents(order.constraints, contents));
    loopsOf(input, this.#options.features);
    return this.#make(order, input, []);
  }

  /**
   * The root or usr partition of a disk image, checked by its hashes where it has some and the kernel can, or where these alone are
   * vouched for.
   */
  #disk(order: MountOrder, { fileSystem, range, hashes }: MountedPartition): Promise<OwnedFd> | OwnedFd {
    const hashesRequired = order.constraints.rootHashOnly;
    const plain = { ...inputOf(order, fileSystem), range, hashesRequired };
    const part = hashes === undefined ? plain : { ...plain, hashes };
    loopsOf(part, this.#options.features);
    return this.#make(order, part, []);
  }

  #checked(order: MountOrder, scan: ScannedImage): Promise<OwnedFd> | OwnedFd {
    const fileSystem = checkContents(order.constraints, scan);
    // First of all: objects that are collected from here on would be missing from it.
    const recorded = this.#options.records.cover(order.image.digest, scan.objects, order.peer);
    if (recorded === undefined) return this.#recorded(order, scan, fileSystem);
    return recorded.then(() => this.#recorded(order, scan, fileSystem));
  }

  #recorded(
    order: MountOrder,
    scan: ScannedImage,
    fileSystem: Input['fileSystem'],
  ): Promise<OwnedFd> | OwnedFd {
    const input = inputOf(order, fileSystem);
    // What needs no store gets none: it mounts on kernels and filesystems that could not check one.
    if (input.fileSystem === 'erofs' || scan.objects.count === 0) return this.#make(order, input, []);
    if (order.stores.directories.length > 0) return this.#withDirectories(order, input, scan);
    const layers = this.#policyLayers(order);
    const key = layersKey(layers, order.constraints.verity);
    const { contents } = this.#options;
    if (contents.isComplete(order.image.digest, key)) {
      contents.setComplete(order.image.digest, key);
      return this.#make(order, input, layers);
    }
    // Opened again afterwards: the clones are only borrowed for this turn.
    return this.#demandObjects(order, input, scan, layers, key).then(() =>
      this.#make(order, input, this.#policyLayers(order)),
    );
  }

  /** Whether a mount of the image that `user` brings is likely to be a clone of a kept one. */
  keeps(digest: Digest, user: number): boolean {
    return this.#options.kept?.holds(digest, user) === true;
  }

  /** Looks for the image's objects in `stores`, so that a request need not. Rejects as mount, but not for what is missing. */
  async prepare(
    image: TakenImage,
    scan: ScannedImage,
    stores: readonly PolicyStore[],
    verity: VerityLevel,
    owner: Owner,
  ): Promise<void> {
    const { contents, clones } = this.#options;
    if (scan.objects.count === 0) return;
    const layers = stores.map((store) => clones.open(store));
    const key = layersKey(layers, verity);
    if (contents.isComplete(image.digest, key)) return;
    const missing = await this.#missing(scan, layers, verity, { owner, stallable: false });
    if (missing.count === 0) contents.setComplete(image.digest, key);
  }

  #policyLayers(order: MountOrder): OpenPolicyStore[] {
    return order.constraints.stores.map((store) => this.#options.clones.open(store));
  }

  /** With directories of the client's: clones of them are made on a thread, and so is everything that touches them. */
  async #withDirectories(order: MountOrder, input: Input, scan: ScannedImage): Promise<OwnedFd> {
    const { pool, features, closing } = this.#options;
    if (!features.overlayDetachedLayers) {
      throw new KernelUnsupported({
        feature: 'directories of clients as stores (detached layers, Linux 6.15)',
      });
    }
    const clones: number[] = [];
    try {
      for (const directory of order.stores.directories) {
        const options = { owner: order.peer, stallable: true };
        const { fds } = await pool
          .run<'clone'>({ kind: 'clone' }, [order.peer.pidfd.number, directory.fd], options)
          .catch((error: unknown) => {
            throw foreignMount(error, directory.field);
          });
        clones.push(...fds);
      }
      const own = order.stores.directories.map(({ identity }, index): Layer => {
        return { fd: clones[index] ?? -1, trusted: false, identity };
      });
      const layers = (): Layer[] => [...this.#policyLayers(order), ...own];
      await this.#demandObjects(order, input, scan, layers(), undefined);
      await order.image.admit();
      return await this.#onThread(order, input, layers);
    } finally {
      closing.close(clones, order.peer);
    }
  }

  /** Looks for every object of the image; those in clients' directories may have gone by the next time. */
  async #demandObjects(
    order: MountOrder,
    input: Input,
    scan: ScannedImage,
    layers: readonly Layer[],
    key: string | undefined,
  ): Promise<void> {
    const { contents, features } = this.#options;
    // What this kernel cannot do comes first: where it has no fs-verity, no object could have it.
    planMount({ ...input, imageFd: order.image.fd, stores: layers }, features);
    if (scan.objects.count > 0) {
      const options = { owner: order.peer, stallable: key === undefined };
      const missing = await this.#missing(scan, layers, order.constraints.verity, options);
      if (missing.count > 0) throw objectsMissing(missing, layers.length);
    }
    if (key !== undefined) contents.setComplete(order.image.digest, key);
  }

  async #missing(
    scan: ScannedImage,
    layers: readonly Layer[],
    verity: VerityLevel,
    options: TaskOptions,
  ): Promise<MissingObjects> {
    const { pool, objectsListed } = this.#options;
    const checked = checksVerity(verity, layers);
    const task = {
      kind: 'missing',
      objects: scan.objects,
      from: 0,
      to: scan.objects.count,
      verity: layers.map(() => checked),
      listed: objectsListed,
    } as const;
    const fds = layers.map(({ fd }) => fd);
    return (await pool.run<'missing'>(task, fds, options)).value;
  }

  #make(order: MountOrder, input: Input, layers: readonly OpenPolicyStore[]): Promise<OwnedFd> | OwnedFd {
    const layersLater = (): OpenPolicyStore[] => (layers.length === 0 ? [] : this.#policyLayers(order));
    if (order.image.kind === 'verity') return this.#onThread(order, input, layersLater);
    const { kept, handouts } = this.#options;
    const kinds = kept === undefined ? undefined : keepable(order, input.fileSystem, layers);
    const known = kept === undefined || kinds === undefined ? undefined : this.#clone(kept, kinds.top, order);
    if (known !== undefined) return known;
    const admitted = order.image.admit();
    const later = (): OwnedFd => this.#makeNew(order, input, layersLater());
    if (admitted !== undefined) return admitted.then(() => handouts.withRoom(later));
    return handouts.withRoom(() => this.#makeNew(order, input, layers), later);
  }

  #makeNew(order: MountOrder, input: Input, layers: readonly OpenPolicyStore[]): OwnedFd {
    const { kept } = this.#options;
    const kinds = kept === undefined ? undefined : keepable(order, input.fileSystem, layers);
    const planned = { ...input, imageFd: order.image.fd, stores: layers };
    if (kept === undefined || kinds === undefined) return this.#superblock(order, planned).mount;
    const { top, layer } = kinds;
    return this.#clone(kept, top, order) ?? this.#keep(kept, top, layer, order, planned);
  }

  /** A clone of the kept mount, where there is one. */
  #clone(kept: KeptMounts, kind: KeptKind, order: MountOrder): OwnedFd | undefined {
    const clone = kept.clone(kind.key, order.constraints.attributes);
    if (clone === undefined) return undefined;
    if (order.record !== undefined) clone.live?.add(order.record, order.peer);
    return clone.mount;
  }

  /** Makes the mount, over a layer that is kept or will be, and keeps it. */
  #keep(
    kept: KeptMounts,
    kind: KeptKind,
    layer: KeptKind | undefined,
    order: MountOrder,
    input: PlanInput,
  ): OwnedFd {
    const below = layer === undefined ? {} : { layerFd: this.#layer(kept, layer, input) };
    const plain = { ...input, ...below, attributes: ['ro'], lock: false } as const;
    const { mount, live } = this.#superblock(order, plain);
    kept.keep(kind, mount, live);
    const clone = this.#clone(kept, kind, order);
    if (clone === undefined) throw new Error('a mount that was kept a moment ago is not');
    return clone;
  }

  #layer(kept: KeptMounts, kind: KeptKind, input: PlanInput): number {
    const { features, stage } = this.#options;
    const known = kept.layer(kind.key);
    if (known !== undefined) return known;
    const made = mountLayer(input, features, stage);
    kept.keep(kind, made, undefined);
    return made.number;
  }

  /** Makes a mount with a superblock of its own, which counts against the user. */
  #superblock(order: MountOrder, input: PlanInput): { readonly mount: OwnedFd; readonly live: LiveMount } {
    const { stage, features, handouts, sweeper } = this.#options;
    // A layer that is kept is the service's own, and has its device already.
    const loops = input.layerFd === undefined ? loopsOf(input, features) : 0;
    const reservation = handouts.reserve(order.peer, loops);
    let mount: OwnedFd | undefined;
    try {
      mount = mountImage(input, features, stage, () => {
        handouts.reserveLoops(reservation, 1);
      });
    } catch (error) {
      throw explained(error, order);
    } finally {
      if (mount === undefined) handouts.cancel(reservation);
      sweeper.sweepSoon();
    }
    return { mount, live: this.#watch(mount, reservation, order) };
  }

  async #onThread(order: MountOrder, input: Input, openLayers: () => readonly Layer[]): Promise<OwnedFd> {
    const { features, handouts } = this.#options;
    const loops = loopsOf(input, features);
    const reservation = await handouts.withRoom(() => handouts.reserve(order.peer, loops));
    let made: OwnedFd | undefined;
    try {
      made = await this.#mountOnThread(order, input, openLayers());
    } catch (error) {
      throw explained(error, order);
    } finally {
      if (made === undefined) handouts.cancel(reservation);
    }
    this.#watch(made, reservation, order);
    return made;
  }

  async #mountOnThread(order: MountOrder, input: Input, layers: readonly Layer[]): Promise<OwnedFd> {
    const { pool, features } = this.#options;
    const { userNamespaceFd, ...plain } = input;
    const fds = [
      order.image.fd,
      ...(userNamespaceFd === undefined ? [] : [userNamespaceFd]),
      ...layers.map(({ fd }) => fd),
    ];
    const task = {
      kind: 'mount',
      input: plain,
      idMap: userNamespaceFd !== undefined,
      trusted: layers.map(({ trusted }) => trusted),
      storePaths:
        features.overlayDetachedLayers || layers.length === 0
          ? undefined
          : order.constraints.stores.map(({ path }) => path),
      features,
    } as const;
    const result = await pool.run<'mount'>(task, fds, { owner: order.peer, stallable: true });
    return new OwnedFd(result.fds[0] ?? -1);
  }

  #watch(made: OwnedFd, reservation: Reservation, order: MountOrder): LiveMount {
    try {
      const { copy } = order.image;
      return this.#options.handouts.watch(made.number, reservation, { copy, record: order.record });
    } catch (error) {
      closeFd(made.take());
      throw error;
    }
  }
}

type Input = Omit<PlanInput, 'imageFd' | 'stores'>;

/** The order as it is to be planned; the image's descriptor and the stores are still to come. */
function inputOf({ image, constraints, idMap, peer }: MountOrder, fileSystem: Input['fileSystem']): Input {
  const userNamespaceFd = resolveIdMap(idMap, peer);
  return {
    fileSystem,
    digest: image.digest,
    verity: constraints.verity,
    attributes: constraints.attributes,
    lock: true,
    ...(userNamespaceFd === undefined ? {} : { userNamespaceFd }),
  };
}

/** The filesystem to mount. The decision has looked at the contents already; nothing is mounted that it did not see. */
function checkContents(constraints: Constraints, contents: ImageContents): Input['fileSystem'] {
  const { fileSystem } = constraints;
  const which = misfit(contents, constraints);
  if (which === undefined && fileSystem !== 'ddi') return fileSystem;
  throw new IncompatibleImage({ reason: `what the image holds does not go with the decision: ${which}` });
}

/** Whether the kernel will want fs-verity of every object: as in planMount, unless nothing is checked at all. */
function checksVerity(verity: VerityLevel, layers: readonly Layer[]): boolean {
  if (verity === 'never') return false;
  return verity === 'require' || !layers.every(({ trusted }) => trusted);
}

/** Says which stores, and whether they were looked at for fs-verity. */
function layersKey(layers: readonly Layer[], verity: VerityLevel): string {
  const checked = checksVerity(verity, layers) ? 'checked' : 'there';
  return [checked, ...layers.map(({ identity }) => identity)].join(' ');
}
