import { existsSync, readFileSync } from 'node:fs';
import type { AddObjectsReply } from '../api/mount-delegation.ts';
import { BadFileDescriptor, ImageNotFound } from '../api/mount-delegation.ts';
import type { AddObjectsOptions } from './options.ts';
import { openImmutableImage } from './sealed-image.ts';

/** A file that is said to be one of the image's: its path, and its size in bytes. */
export interface FoundObject {
  readonly path: string;
  readonly bytes: number;
}

/** What is uploaded, and whence. */
export interface UploadOptions extends Pick<
  AddObjectsOptions,
  'image' | 'digest' | 'signatures' | 'allowUnsigned' | 'store'
> {
  /**
   * Says where the files are whose paths in a store (`ab/cdef…`, their digests) are given; those that are nowhere are left out.
   * Called once, with all that the store lacks.
   */
  readonly find: (
    objects: readonly string[],
  ) => ReadonlyMap<string, FoundObject> | Promise<ReadonlyMap<string, FoundObject>>;
  /** Called after each call: files and bytes that were sent, and those that are to be sent in all. */
  readonly onProgress?: (done: UploadProgress, all: UploadProgress) => void;
}

/** Files, and bytes of all. */
export interface UploadProgress {
  readonly files: number;
  readonly bytes: number;
}

/** What became of it. */
export interface UploadedObjects {
  readonly evidence: AddObjectsReply['evidence'];
  /** The store's name. */
  readonly store: string;
  /** What the store did not have before: others may have added the same files meanwhile. */
  readonly added: UploadProgress;
  /** Objects that the store lacks still, since `find` did not find them. */
  readonly missing: readonly string[];
}

/** The service did not take a file. `path` is the file's, `reason` the service's. */
export class ObjectRefused extends Error {
  override readonly name = 'ObjectRefused';
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
    this.path = path;
    this.reason = reason;
  }
}

/** One message carries 253 descriptors, and one of them may be the image's. */
const filesPerCall = 252;

/** The calls that an upload makes; MountDelegationClient has them. */
interface Service {
  addObjects(options: AddObjectsOptions): Promise<AddObjectsReply>;
}

/**
 * Adds the files of an image that a store of the policy lacks: asks which they are, looks for them, and sends them in as few
 * calls as possible. The image itself is sent once. Throws what addObjects() throws, and ObjectRefused.
 */
export async function uploadObjects(service: Service, options: UploadOptions): Promise<UploadedObjects> {
  using image = new ShownImage(service, options);
  const { first, missing: lacking } = await listMissing(image);
  const found = lacking.length === 0 ? new Map<string, FoundObject>() : await options.find(lacking);
  const files = lacking.flatMap((object) => {
    const file = found.get(object);
    return file === undefined ? [] : [{ object, ...file }];
  });
  const all = total(files);
  let [done, added]: [UploadProgress, UploadProgress] = [nothing, nothing];
  for (let from = 0; from < files.length; from += filesPerCall) {
    const batch = files.slice(from, from + filesPerCall);
    const reply = await send(image, batch);
    const isNew = new Set(reply.added);
    done = sum(done, total(batch));
    added = sum(added, total(batch.filter(({ object }) => isNew.has(object))));
    options.onProgress?.(done, all);
  }
  const { evidence, store } = first;
  return { evidence, store, added, missing: lacking.filter((object) => !found.has(object)) };
}

const nothing: UploadProgress = { files: 0, bytes: 0 };

function total(files: readonly FoundObject[]): UploadProgress {
  return { files: files.length, bytes: files.reduce((bytes, file) => bytes + file.bytes, 0) };
}

function sum(one: UploadProgress, other: UploadProgress): UploadProgress {
  return { files: one.files + other.files, bytes: one.bytes + other.bytes };
}

/** Everything that the store lacks, part by part. */
async function listMissing(
  image: ShownImage,
): Promise<{ first: AddObjectsReply; missing: readonly string[] }> {
  const first = await image.call({});
  const missing = [...first.missing];
  for (let from = first.missingNext; from !== undefined;) {
    const part = await image.call({ missingFrom: from });
    missing.push(...part.missing);
    from = part.missingNext;
  }
  return { first, missing };
}

async function send(image: ShownImage, batch: readonly FoundObject[]): Promise<AddObjectsReply> {
  try {
    return await image.call({ objects: batch.map(({ path }) => path), missingMost: 0 });
  } catch (error) {
    const place =
      error instanceof BadFileDescriptor
        ? /^objectFileDescriptors\[(\d+)\]$/.exec(error.parameters.field)
        : null;
    const refused = place === null ? undefined : batch[Number(place[1])];
    if (refused === undefined || !(error instanceof BadFileDescriptor)) throw error;
    throw new ObjectRefused(refused.path, error.parameters.reason, { cause: error });
  }
}

/** An image that is handed over with the first call, and named by its digest in those that follow. */
class ShownImage implements Disposable {
  readonly #service: Service;
  readonly #options: AddObjectsOptions;
  readonly #fd: Disposable | undefined;
  #digest: string | undefined;

  constructor(service: Service, { image, digest, signatures, allowUnsigned, store }: UploadOptions) {
    this.#service = service;
    const opened = 'path' in image ? openImmutableImage(image.path).fd : undefined;
    this.#fd = opened;
    this.#options = {
      image: opened === undefined ? image : { fd: opened.number },
      digest,
      signatures: signatures ?? signaturesBeside(image),
      allowUnsigned,
      store,
    };
  }

  async call(
    more: Pick<AddObjectsOptions, 'objects' | 'missingFrom' | 'missingMost'>,
  ): Promise<AddObjectsReply> {
    if (this.#digest === undefined || 'name' in this.#options.image) return this.#whole(more);
    try {
      return await this.#service.addObjects({ ...this.#options, ...more, image: { name: this.#digest } });
    } catch (error) {
      // The service remembers only so many images.
      if (!(error instanceof ImageNotFound)) throw error;
      return this.#whole(more);
    }
  }

  async #whole(more: Partial<AddObjectsOptions>): Promise<AddObjectsReply> {
    const reply = await this.#service.addObjects({ ...this.#options, ...more });
    this.#digest = reply.evidence.digest;
    return reply;
  }

  [Symbol.dispose](): void {
    this.#fd?.[Symbol.dispose]();
  }
}

function signaturesBeside(image: UploadOptions['image']): readonly Uint8Array[] | undefined {
  if (!('path' in image) || !existsSync(`${image.path}.sig`)) return undefined;
  return [readFileSync(`${image.path}.sig`)];
}
