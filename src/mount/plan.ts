import type { Digest } from '../base/digest.ts';
import type { Attribute } from '../policy/policy.ts';
import { attributeBits } from './attributes.ts';
import type { ByteRange } from './byte-range.ts';
import type { Features } from './features.ts';
import type { VerityHashes, VerityTable } from './verity-table.ts';
import { isDeviceFileSystem, mountOptions, type DeviceFileSystem } from './file-systems.ts';

/** A descriptor that a step uses: one that an earlier step made, by its slot, or one that the plan was given. */
export type Ref = { readonly slot: string } | { readonly fd: number };

/** A place in the tree: where a slot was attached, for a kernel that takes layers by path, or what a descriptor refers to. */
export type PathRef = { readonly attached: string } | Ref;

/** A name, without a slash, for what a descriptor refers to. */
export interface NamedRef {
  readonly name: string;
  readonly value: Ref;
}

type Paths = readonly PathRef[];

/** One call, in plain data. `into` names the slot that its descriptor goes to. */
export type Step =
  | { readonly step: 'fsopen'; readonly fileSystem: string; readonly into: string }
  | { readonly step: 'flag'; readonly context: string; readonly key: string }
  | { readonly step: 'string'; readonly context: string; readonly key: string; readonly value: string }
  | { readonly step: 'path'; readonly context: string; readonly key: string; readonly value: PathRef }
  | { readonly step: 'descriptor'; readonly context: string; readonly key: string; readonly value: Ref }
  /** All layers of an overlay at once, those of `data` being data-only. */
  | { readonly step: 'layers'; readonly context: string; readonly layers: Paths; readonly data: Paths }
  /** A loop device that shows a file, or the `range` of it alone. */
  | { readonly step: 'loop'; readonly file: number; readonly range?: ByteRange; readonly into: string }
  /** A device that shows what `data` does, each block checked by `hashes` as it is read. */
  | {
      readonly step: 'verity';
      readonly data: string;
      readonly hashes: string;
      readonly table: VerityTable;
      readonly into: string;
    }
  /** `named`: the source that was given is no path but a name, which is to lead to the descriptor for this call. */
  | {
      readonly step: 'create';
      readonly context: string;
      readonly exclusive: boolean;
      readonly named?: NamedRef;
    }
  | { readonly step: 'fsmount'; readonly context: string; readonly attributes: number; readonly into: string }
  /** A detached clone of a detached mount. */
  | { readonly step: 'clone'; readonly mount: number; readonly into: string }
  | { readonly step: 'idmap'; readonly mount: string; readonly userNamespaceFd: number }
  | { readonly step: 'attach'; readonly mount: string; readonly into: string }
  | { readonly step: 'lock'; readonly mount: string; readonly into: string };

/** Steps, and the slot whose descriptor is the result. Every other slot is closed once the steps are done. */
export interface Plan {
  readonly steps: readonly Step[];
  readonly result: string;
}

/** A directory in which a composefs image finds its files. */
export interface PlanStore {
  /**
   * A detached clone of the directory's mount where the kernel has overlayDetachedLayers, else a descriptor of the
   * directory that was opened in the mount namespace in which the plan is executed.
   */
  readonly fd: number;
  /** Only root can write it, so that its files may go unchecked where the level lets them. */
  readonly trusted: boolean;
}

/** What is to be mounted, with everything decided. */
export interface PlanInput {
  readonly fileSystem: 'composefs' | 'erofs' | DeviceFileSystem;
  readonly digest: Digest;
  /** The immutable image file. With erofsFromFile, on a filesystem from which EROFS mounts (ENOTBLK elsewhere). */
  readonly imageFd: number;
  /** The part of the file that the filesystem is in; left out: all of it. */
  readonly range?: ByteRange;
  /**
   * The filesystem's hashes of dm-verity, by which each block is checked as it is read where the kernel can. Where the whole of the
   * file is trusted already, a kernel that cannot goes without.
   */
  readonly hashes?: VerityHashes;
  /** Nothing is trusted but what the hashes vouch for: a kernel that cannot check it mounts nothing. */
  readonly hashesRequired?: boolean;
  /** Empty for an image that needs no files. Ignored for all but composefs. */
  readonly stores: readonly PlanStore[];
  readonly verity: 'require' | 'ifPresent' | 'never';
  readonly attributes: readonly Attribute[];
  /** A user namespace whose IDs the mount shows. */
  readonly userNamespaceFd?: number;
  /** Whether the result is passed through the stage, which locks its attributes against a receiver. */
  readonly lock: boolean;
  /**
   * The layer that planLayer made of this image before, a detached mount: the overlay is laid over it instead of over
   * another superblock of the image. For composefs, with overlayDetachedLayers.
   */
  readonly layerFd?: number;
}

/** What was demanded is beyond this kernel. `remedy` says what would work, where something would. */
export class KernelUnsupportedError extends Error {
  readonly feature: string;
  readonly remedy?: string;

  constructor(feature: string, remedy?: string) {
    super(remedy === undefined ? feature : `${feature}; ${remedy}`);
    this.name = 'KernelUnsupportedError';
    this.feature = feature;
    if (remedy !== undefined) this.remedy = remedy;
  }
}

/** The steps that mount `input` on a kernel with `features`. Throws KernelUnsupportedError; never weakens anything. */
export function planMount(input: PlanInput, features: Features): Plan {
  const image = input.layerFd === undefined ? imageSteps(input, features) : layerClone(input.layerFd);
  const mapped = idMapSteps(input, features);
  const top = input.fileSystem === 'composefs' ? overlaySteps(input, features) : [];
  const mount = input.fileSystem === 'composefs' ? 'overlay' : 'image';
  const steps = [...image, ...mapped, ...top];
  if (!input.lock) return { steps, result: mount };
  demand(features.lockedMounts, 'locking mount attributes (user namespaces)');
  return { steps: [...steps, { step: 'lock', mount, into: 'locked' }], result: 'locked' };
}

/** The steps that mount the EROFS layer of a composefs image alone, showing the image's own IDs: for `layerFd`. */
export function planLayer(input: PlanInput, features: Features): Plan {
  return { steps: imageSteps(input, features), result: 'image' };
}

function layerClone(mount: number): Step[] {
  return [{ step: 'clone', mount, into: 'image' }];
}

function demand(available: boolean, feature: string, remedy?: string): void {
  if (!available) throw new KernelUnsupportedError(feature, remedy);
}

/**
 * Whether the image is mounted through a loop device rather than straight from its file. Throws KernelUnsupportedError
 * where it can be mounted by neither.
 */
export function byLoop(input: Pick<PlanInput, 'fileSystem' | 'range'>, features: Features): boolean {
  if (isDeviceFileSystem(input.fileSystem) || input.range !== undefined) {
    demand(
      features.loopDevices,
      'loop devices (/dev/loop-control)',
      'EROFS images of a whole file need none',
    );
    return true;
  }
  // COMPAT(6.12): no EROFS from a file. Later kernels need the device where an overlay could not lie over the mount.
  const file =
    features.erofsFromFile &&
    (input.fileSystem === 'erofs' || features.overlayOverFileImages || !features.loopDevices);
  if (file) return false;
  demand(
    features.loopDevices,
    'EROFS from a file (Linux 6.12)',
    'loop devices (/dev/loop-control) would work',
  );
  return true;
}

/** How many loop devices the image is mounted by. Throws KernelUnsupportedError as planMount. */
export function loopsOf(
  input: Pick<PlanInput, 'fileSystem' | 'range' | 'hashes' | 'hashesRequired'>,
  features: Features,
): number {
  if (!byLoop(input, features)) return 0;
  return hashesToCheck(input, features) === undefined ? 1 : 2;
}

/** The hashes that are to be checked; undefined for none. Throws KernelUnsupportedError where they have to be and cannot. */
function hashesToCheck(
  { hashes, hashesRequired = false }: Pick<PlanInput, 'hashes' | 'hashesRequired'>,
  features: Features,
): VerityHashes | undefined {
  if (hashesRequired) {
    if (hashes === undefined) throw new RangeError('hashes are required, and there are none');
    demand(
      features.verityDevices,
      'dm-verity (the device mapper), by which alone the signed root hash is checked',
      'a signature of the whole file (cfs-mountctl sign --file-system ddi) would do without',
    );
  }
  return features.verityDevices ? hashes : undefined;
}

function imageSteps(input: PlanInput, features: Features): Step[] {
  const { fileSystem } = input;
  const layer = fileSystem === 'composefs';
  const loop = byLoop(input, features);
  const devices = loop ? deviceSteps(input, features) : [];
  const value: Ref = loop ? { slot: devices.at(-1)?.into ?? 'loop' } : { fd: input.imageFd };
  const create = { step: 'create', context: 'image context', exclusive: features.createExclusive } as const;
  return [
    ...devices,
    {
      step: 'fsopen',
      fileSystem: isDeviceFileSystem(fileSystem) ? fileSystem : 'erofs',
      into: 'image context',
    },
    // A device that is read-only is opened for writing, which fails, unless this is said.
    ...(loop ? [{ step: 'flag', context: 'image context', key: 'ro' } as const] : []),
    ...(isDeviceFileSystem(fileSystem) ? optionSteps(fileSystem) : []),
    ...(layer
      ? ([{ step: 'path', context: 'image context', key: 'source', value }, create] as const)
      : // What mountinfo shows as the mount's source is what the kernel was given to open.
        ([
          { step: 'string', context: 'image context', key: 'source', value: input.digest },
          { ...create, named: { name: input.digest, value } },
        ] as const)),
    {
      step: 'fsmount',
      context: 'image context',
      attributes: attributeBits(layer ? ['ro'] : input.attributes),
      into: 'image',
    },
  ];
}

type DeviceStep = Extract<Step, { step: 'loop' | 'verity' }>;

/** The devices that an image is mounted from; the last one is the filesystem's. */
function deviceSteps(input: PlanInput, features: Features): readonly DeviceStep[] {
  const { imageFd, range } = input;
  const attach = { step: 'loop', file: imageFd, into: 'loop' } as const;
  const data = range === undefined ? attach : { ...attach, range };
  const hashes = hashesToCheck(input, features);
  if (hashes === undefined) return [data];
  return [
    data,
    { ...attach, range: hashes.range, into: 'hashes' },
    { step: 'verity', data: 'loop', hashes: 'hashes', table: hashes.table, into: 'checked' },
  ];
}

function optionSteps(fileSystem: DeviceFileSystem): Step[] {
  const context = 'image context';
  return mountOptions[fileSystem].map(({ key, value }) =>
    value === undefined ? { step: 'flag', context, key } : { step: 'string', context, key, value },
  );
}

// The merged overlay cannot be ID-mapped (EINVAL); its detached layer can, and the overlay shows the mapped owners.
function idMapSteps({ userNamespaceFd, fileSystem }: PlanInput, features: Features): Step[] {
  if (userNamespaceFd === undefined) return [];
  // Of the others it is found out with the mount at hand (src/sys/id-mapping.ts): none of them is mounted for a trial.
  if (!isDeviceFileSystem(fileSystem)) demand(features.idmappedErofs, 'ID-mapped EROFS mounts', idMapRemedy);
  return [{ step: 'idmap', mount: 'image', userNamespaceFd }];
}

/** What works where a filesystem cannot be ID-mapped. */
export const idMapRemedy = 'idMap none would work';

function overlaySteps(input: PlanInput, features: Features): Step[] {
  if (input.stores.length > 0) {
    demand(
      features.overlayDataOnly,
      'data-only layers of overlayfs (Linux 6.5)',
      'an image that needs no store, or a plain EROFS image, would work',
    );
  }
  const verity = overlayVerity(input, features);
  const option = (key: string, value: string): Step => ({ step: 'string', context: 'context', key, value });
  return [
    { step: 'fsopen', fileSystem: 'overlay', into: 'context' },
    option('source', input.digest),
    option('metacopy', 'on'),
    option('redirect_dir', 'on'),
    // Said even where it is off: a module parameter may have changed the default.
    ...(features.overlayVerity ? [option('verity', verity)] : []),
    ...(features.overlayLowerdirPlus ? layersOneByOne(input, features) : layersAtOnce(input, features)),
    { step: 'create', context: 'context', exclusive: features.createExclusive },
    { step: 'fsmount', context: 'context', attributes: attributeBits(input.attributes), into: 'overlay' },
  ];
}

function layersOneByOne({ stores }: PlanInput, features: Features): Step[] {
  return [
    ...layerSteps('lowerdir+', 'image', features),
    ...(stores.length === 0
      ? [...emptyLayerSteps, ...layerSteps('datadir+', 'empty', features)]
      : storeSteps(stores, features)),
  ];
}

/** COMPAT(6.7): all layers by path in one option. */
function layersAtOnce({ stores }: PlanInput, features: Features): Step[] {
  const attach = (mount: string): Step => ({ step: 'attach', mount, into: `${mount} attached` });
  const image = { attached: 'image attached' };
  if (stores.length > 0) {
    const data = stores.map(({ fd }) => ({ fd }));
    return [attach('image'), { step: 'layers', context: 'context', layers: [image], data }];
  }
  const empty = { attached: 'empty attached' };
  // COMPAT(6.5): a layer with nothing in it may as well be an ordinary one.
  const layers = features.overlayDataOnly
    ? { layers: [image], data: [empty] }
    : { layers: [image, empty], data: [] };
  return [
    attach('image'),
    ...emptyLayerSteps,
    attach('empty'),
    { step: 'layers', context: 'context', ...layers },
  ];
}

function layerSteps(key: string, slot: string, features: Features): Step[] {
  if (features.overlayDetachedLayers) {
    return [{ step: 'descriptor', context: 'context', key, value: { slot } }];
  }
  // COMPAT(6.15): a layer must be attached in the mount namespace of the caller, and is given by its path.
  return [
    { step: 'attach', mount: slot, into: `${slot} attached` },
    { step: 'path', context: 'context', key, value: { attached: `${slot} attached` } },
  ];
}

function storeSteps(stores: readonly PlanStore[], features: Features): Step[] {
  return stores.map(({ fd }) =>
    features.overlayDetachedLayers
      ? { step: 'descriptor', context: 'context', key: 'datadir+', value: { fd } }
      : // COMPAT(6.15): see layerSteps.
        { step: 'path', context: 'context', key: 'datadir+', value: { fd } },
  );
}

// overlayfs wants two layers at least, and only overlayfs hides the whiteouts that the format puts into the root folder.
const emptyLayerSteps: readonly Step[] = [
  { step: 'fsopen', fileSystem: 'tmpfs', into: 'tmpfs' },
  { step: 'create', context: 'tmpfs', exclusive: false },
  { step: 'fsmount', context: 'tmpfs', attributes: attributeBits(['ro']), into: 'empty' },
];

/**
 * overlayfs's option `verity`. `on` and `require` make every file that carries a digest fail with EIO on a kernel
 * without fs-verity, so they are refused there, and what trusted stores alone supply goes unchecked at open where the
 * level lets it.
 */
function overlayVerity(input: PlanInput, features: Features): 'require' | 'on' | 'off' {
  if (input.verity === 'never') return 'off';
  // Without a store there is no file outside the image that could be checked.
  if (input.stores.length === 0) return 'off';
  if (input.verity === 'ifPresent' && input.stores.every((store) => store.trusted)) return 'off';
  const remedy =
    input.verity === 'require'
      ? 'stores with verity "trusted", at level ifPresent, would work where the policy allows them'
      : 'only stores with verity "trusted" work without it';
  demand(features.fsVerity, 'fs-verity', remedy);
  demand(features.overlayVerity, 'verity of overlayfs (Linux 6.6)', remedy);
  return input.verity === 'require' ? 'require' : 'on';
}
