import type {
  AddObjectsParameters,
  Image,
  MountParameters,
  VerifyParameters,
} from '../../api/mount-delegation.ts';
import { fromBase64 } from '../../base/bytes.ts';
import { parseDigest, type Digest } from '../../base/digest.ts';
import { attributes, type Attribute, type VerityLevel } from '../../policy/policy.ts';
import { fileSystems, type FileSystem } from '../../trust/file-system.ts';
import { isPathOfSegments } from '../../trust/statement.ts';
import { InvalidParameter } from '../../varlink/service.ts';
import { limits } from '../callers/limits.ts';

/** Which image: a descriptor that came with the call, a path below the image directories, or a digest there. */
export type ImageRequest =
  | { readonly kind: 'descriptor'; readonly fd: number; readonly field: string }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'digest'; readonly digest: Digest };

/** Whose IDs the mount shows. `fd` is a descriptor that came with the call and claims to be a user namespace. */
export type IdMapRequest =
  | { readonly kind: 'none' }
  | { readonly kind: 'caller' }
  | { readonly kind: 'userNamespace'; readonly fd: number; readonly field: string };

/** Where the image's files are. Both empty: the stores of the rule that lets the image in. */
export interface StoresRequest {
  readonly names: readonly string[];
  readonly directories: readonly { readonly fd: number; readonly field: string }[];
}

/** What Verify asks, and Mount as well. Descriptors are borrowed from the call, whose owner closes them. */
export interface VerifyRequest {
  readonly image: ImageRequest;
  readonly fileSystem: FileSystem | undefined;
  readonly digest: Digest | undefined;
  readonly signatures: readonly Uint8Array[];
  readonly allowUnsigned: boolean;
  readonly stores: StoresRequest;
  readonly verity: VerityLevel | undefined;
}

/** What Mount asks. */
export interface MountRequest extends VerifyRequest {
  readonly idMap: IdMapRequest;
  readonly attributes: readonly Attribute[];
}

/** A file that is to be added to a store; `field` is what errors call it. */
export interface ObjectFile {
  readonly fd: number;
  readonly field: string;
}

/** What AddObjects asks. */
export interface AddObjectsRequest extends VerifyRequest {
  /** The store's name; undefined: the first that the rule lets its callers add to. */
  readonly addTo: { readonly store: string | undefined };
  readonly objects: readonly ObjectFile[];
  /** Where in the image's list missing files are looked for, and how many are listed at most. */
  readonly missing: { readonly from: number; readonly most: number };
}

/** Hands out each descriptor of a call at most once. */
class Indices {
  readonly #fds: readonly number[];
  readonly #used = new Set<number>();

  constructor(fds: readonly number[]) {
    this.#fds = fds;
  }

  use(field: string, index: number): number {
    const fd = this.#fds[index];
    if (fd === undefined) throw new InvalidParameter(field, `no descriptor ${index} came with the call`);
    if (this.#used.has(index)) throw new InvalidParameter(field, `descriptor ${index} is named twice`);
    this.#used.add(index);
    return fd;
  }
}

function parseCount(field: string, value: number | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (value < 0) throw new InvalidParameter(field, 'below 0');
  return value;
}

function parseImage(image: Image, indices: Indices): ImageRequest {
  if (image.fileDescriptor !== undefined) {
    if (image.name !== undefined)
      throw new InvalidParameter('image.name', 'image.fileDescriptor is given as well');
    const field = 'image.fileDescriptor';
    return { kind: 'descriptor', fd: indices.use(field, image.fileDescriptor), field };
  }
  if (image.name === undefined)
    throw new InvalidParameter('image', 'neither fileDescriptor nor name is given');
  const digest = parseDigest(image.name);
  if (digest !== undefined) return { kind: 'digest', digest };
  if (!isPathOfSegments(image.name, 'file'))
    throw new InvalidParameter('image.name', 'neither the path of an image nor a digest');
  return { kind: 'name', name: image.name };
}

function parseSignatures(signatures: readonly string[]): Uint8Array[] {
  atMost('signatures', signatures.length, limits.signatures);
  return signatures.map((text, index) => {
    const field = `signatures[${index}]`;
    if (text.length > (limits.signatureFileBytes / 3) * 4 + 4) {
      throw new InvalidParameter(field, `longer than ${limits.signatureFileBytes} bytes`);
    }
    const bytes = fromBase64(text);
    if (bytes === undefined) throw new InvalidParameter(field, 'not base64');
    return bytes;
  });
}

function parseStores(
  names: readonly string[],
  directories: readonly number[],
  indices: Indices,
): StoresRequest {
  atMost('stores', names.length, limits.stores);
  atMost('storeFileDescriptors', directories.length, limits.stores);
  // They go into the error and the log, found or not.
  const long = names.findIndex((name) => name.length > limits.nameBytes);
  if (long >= 0) throw new InvalidParameter(`stores[${long}]`, `longer than ${limits.nameBytes} bytes`);
  if (new Set(names).size !== names.length) throw new InvalidParameter('stores', 'a store is named twice');
  return {
    names,
    directories: directories.map((index, position) => {
      const field = `storeFileDescriptors[${position}]`;
      return { fd: indices.use(field, index), field };
    }),
  };
}

function parseIdMap(parameters: MountParameters, indices: Indices): IdMapRequest {
  const field = 'userNamespaceFileDescriptor';
  const index = parameters.userNamespaceFileDescriptor;
  if (parameters.idMap === 'userNamespace') {
    if (index === undefined) throw new InvalidParameter(field, 'idMap userNamespace needs it');
    return { kind: 'userNamespace', fd: indices.use(field, index), field };
  }
  if (index !== undefined) throw new InvalidParameter(field, 'idMap is not userNamespace');
  return { kind: parameters.idMap ?? 'none' };
}

function oneOf<Name extends string>(field: string, value: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === value);
  if (found === undefined) throw new InvalidParameter(field, `not one of ${names.join(', ')}`);
  return found;
}

function atMost(field: string, count: number, most: number): void {
  if (count > most) throw new InvalidParameter(field, `more than ${most}`);
}

function parseVerify(parameters: VerifyParameters, indices: Indices): VerifyRequest {
  const digest = parameters.digest === undefined ? undefined : parseDigest(parameters.digest);
  if (parameters.digest !== undefined && digest === undefined) {
    throw new InvalidParameter('digest', 'not sha256: and 64 lower-case hexadecimal digits');
  }
  return {
    image: parseImage(parameters.image, indices),
    fileSystem:
      parameters.fileSystem === undefined
        ? undefined
        : oneOf('fileSystem', parameters.fileSystem, fileSystems),
    digest,
    signatures: parseSignatures(parameters.signatures ?? []),
    allowUnsigned: parameters.allowUnsigned ?? false,
    stores: parseStores(parameters.stores ?? [], parameters.storeFileDescriptors ?? [], indices),
    verity: parameters.verity,
  };
}

/**
 * The request that the parameters of Verify make with the descriptors `fds` that came along; the parameters
 * already fit the interface's description. Throws InvalidParameter with the field's name.
 */
export function parseVerifyRequest(parameters: VerifyParameters, fds: readonly number[]): VerifyRequest {
  return parseVerify(parameters, new Indices(fds));
}

/** The request that the parameters of Mount make; as `parseVerifyRequest`. */
export function parseMountRequest(parameters: MountParameters, fds: readonly number[]): MountRequest {
  const indices = new Indices(fds);
  return {
    ...parseVerify(parameters, indices),
    idMap: parseIdMap(parameters, indices),
    attributes: [
      ...new Set((parameters.attributes ?? []).map((name, i) => oneOf(`attributes[${i}]`, name, attributes))),
    ],
  };
}

/** The request that the parameters of AddObjects make; as `parseVerifyRequest`. */
export function parseAddObjectsRequest(
  parameters: AddObjectsParameters,
  fds: readonly number[],
): AddObjectsRequest {
  const indices = new Indices(fds);
  const { image, store, objectFileDescriptors = [], missingFrom, missingMost } = parameters;
  const { digest, signatures, allowUnsigned } = parameters;
  const verify = parseVerify(
    {
      image,
      // Only these images have files in stores; signed as another it is refused.
      fileSystem: 'composefs',
      ...(digest !== undefined && { digest }),
      ...(signatures !== undefined && { signatures }),
      ...(allowUnsigned !== undefined && { allowUnsigned }),
    },
    indices,
  );
  if (store !== undefined && store.length > limits.nameBytes)
    throw new InvalidParameter('store', `longer than ${limits.nameBytes} bytes`);
  return {
    ...verify,
    addTo: { store },
    objects: objectFileDescriptors.map((index, position) => {
      const field = `objectFileDescriptors[${position}]`;
      return { fd: indices.use(field, index), field };
    }),
    missing: {
      from: parseCount('missingFrom', missingFrom, 0),
      most: Math.min(parseCount('missingMost', missingMost, limits.missingListed), limits.missingListed),
    },
  };
}
