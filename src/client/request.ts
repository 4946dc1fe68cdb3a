import { existsSync, readFileSync } from 'node:fs';
import type {
  AddObjectsParameters,
  Image,
  MountParameters,
  VerifyParameters,
} from '../api/mount-delegation.ts';
import { toBase64 } from '../base/bytes.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { duplicate, openFile } from '../sys/file.ts';
import type { AddObjectsOptions, MountOptions, VerifyOptions } from './options.ts';
import { immutableImage, openImmutableImage } from './sealed-image.ts';

/** The parameters of a call, and the descriptors that go with it, by index. */
export interface Request<Parameters> extends Disposable {
  readonly parameters: Parameters;
  readonly fds: readonly OwnedFd[];
}

/** Collects descriptors, each under its index; owns them. */
class Descriptors implements Disposable {
  readonly fds: OwnedFd[] = [];

  push(fd: OwnedFd): number {
    return this.fds.push(fd) - 1;
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds) fd.close();
  }
}

/** The Verify call that `options`, which were checked, ask for. Throws SyscallError, RangeError. */
export function verifyRequest(options: VerifyOptions): Request<VerifyParameters> {
  return request((descriptors) => verifyParameters(options, descriptors));
}

/** The Mount call that `options`, which were checked, ask for. Throws SyscallError, RangeError. */
export function mountRequest(options: MountOptions): Request<MountParameters> {
  return request((descriptors) => ({
    ...verifyParameters(options, descriptors),
    ...idMapParameters(options, descriptors),
    ...(options.attributes !== undefined && { attributes: [...options.attributes] }),
  }));
}

/** The AddObjects call that `options`, which were checked, ask for. Throws SyscallError, RangeError. */
export function addObjectsRequest(options: AddObjectsOptions): Request<AddObjectsParameters> {
  const { image, digest, signatures, allowUnsigned, store, objects = [], missingFrom, missingMost } = options;
  return request((descriptors) => ({
    ...verifyParameters({ image, digest, signatures, allowUnsigned }, descriptors),
    ...(store !== undefined && { store }),
    ...(objects.length > 0 && {
      objectFileDescriptors: objects.map((object) =>
        // O_NONBLOCK: opening a FIFO would wait for its writer.
        descriptors.push(
          typeof object === 'number' ? duplicate(object) : openFile(object, { nonBlocking: true }),
        ),
      ),
    }),
    ...(missingFrom !== undefined && { missingFrom }),
    ...(missingMost !== undefined && { missingMost }),
  }));
}

function request<Parameters>(build: (descriptors: Descriptors) => Parameters): Request<Parameters> {
  const descriptors = new Descriptors();
  try {
    const parameters = build(descriptors);
    return {
      parameters,
      fds: descriptors.fds,
      [Symbol.dispose]: () => {
        descriptors[Symbol.dispose]();
      },
    };
  } catch (error) {
    descriptors[Symbol.dispose]();
    throw error;
  }
}

function verifyParameters(options: VerifyOptions, descriptors: Descriptors): VerifyParameters {
  const image = imageParameter(options, descriptors);
  const signatures = signatureFiles(options);
  const stores = options.stores ?? [];
  const names = stores.flatMap((store) => ('name' in store ? [store.name] : []));
  const directories = stores.flatMap((store) => ('name' in store ? [] : [store]));
  return {
    image,
    ...(options.fileSystem !== undefined && { fileSystem: options.fileSystem }),
    ...(options.digest !== undefined && { digest: options.digest }),
    ...(signatures.length > 0 && { signatures: signatures.map(toBase64) }),
    ...(options.allowUnsigned !== undefined && { allowUnsigned: options.allowUnsigned }),
    ...(names.length > 0 && { stores: names }),
    ...(directories.length > 0 && {
      storeFileDescriptors: directories.map((store) =>
        descriptors.push('fd' in store ? duplicate(store.fd) : openFile(store.path, { directory: true })),
      ),
    }),
    ...(options.verity !== undefined && { verity: options.verity }),
  };
}

function imageParameter({ image }: VerifyOptions, descriptors: Descriptors): Image {
  if ('name' in image) return { name: image.name };
  const immutable =
    'fd' in image ? immutableImage(image.fd, `descriptor ${image.fd}`) : openImmutableImage(image.path);
  return { fileDescriptor: descriptors.push(immutable.fd) };
}

/** Left out, FILE.sig beside an image file, where it exists. */
function signatureFiles({ image, signatures }: VerifyOptions): readonly Uint8Array[] {
  if (signatures !== undefined) {
    return signatures.map((signature) =>
      typeof signature === 'string' ? readFileSync(signature) : signature,
    );
  }
  if (!('path' in image)) return [];
  const beside = `${image.path}.sig`;
  return existsSync(beside) ? [readFileSync(beside)] : [];
}

function idMapParameters({ idMap }: MountOptions, descriptors: Descriptors): Partial<MountParameters> {
  if (idMap === undefined) return {};
  if (typeof idMap === 'string') return { idMap };
  return {
    idMap: 'userNamespace',
    userNamespaceFileDescriptor: descriptors.push(duplicate(idMap.userNamespaceFd)),
  };
}
