import { closeSync, fstatSync, lstatSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { scanImage } from '../composefs/scan.ts';
import { enableVerity } from '../sys/verity.ts';
import { verityDigest } from '../verity/verity.ts';
import { checkObject } from './check-store.ts';
import { cloneContent, copyContent, measureContent } from './content.ts';
import type { ObjectStore } from './objects.ts';
import { makeDirectory } from './make-directory.ts';
import { objectDigest, openRegular, StoreError } from './objects.ts';
import { lockStore } from './store-lock.ts';
import { Slots } from './slots.ts';
import { errorCode, synchronizeDirectory, UnfinishedFile } from './unfinished-file.ts';
import { prepareFile } from './write-file-whole.ts';

const objectsAtOnceMax = 8;

/** What is installed from where to where: `into` is an image directory of a policy, `store` one of its stores. */
export interface InstallOptions {
  readonly image: string;
  readonly from: ObjectStore;
  readonly into: string;
  readonly store: ObjectStore;
  /** Looks at the signature before anything is put in place; throws where it must not be. */
  readonly checkSignature?: (path: string, signature: Uint8Array, digest: Digest) => void;
  /** Called after each object, with how many there are in the store by then and how many there will be. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** Objects of an image are in neither store. */
export class ObjectsNotFound extends Error {
  override readonly name = 'ObjectsNotFound';
  /** Their paths in a store, in the order in which the image names them. */
  readonly objects: readonly string[];

  constructor(objects: readonly string[]) {
    super(`${objects.length === 1 ? 'an object is' : `${objects.length} objects are`} in neither store`);
    this.objects = objects;
  }
}

/** What was installed. `newObjects` were not in the store before; `signature` is undefined where there was none. */
export interface Installed {
  readonly digest: Digest;
  readonly image: string;
  readonly signature: string | undefined;
  readonly objects: number;
  readonly newObjects: number;
}

/**
 * Copies the objects that an image needs, then its signature (IMAGE.sig), then the image, so that the image is only
 * there once everything else is; a signature of the image that was there before does not stay. Each object is hashed on the
 * way, also those that the store has already; every file gets fs-verity where the filesystem has it. Throws ObjectsNotFound
 * before anything is put in place, StoreError for what is damaged, ImageError for an image that is; objects that were complete
 * by then stay.
 */
export async function installImage(options: InstallOptions): Promise<Installed> {
  const lock = lockStore(options.store.path, 'add');
  try {
    return await installIntoStore(options);
  } finally {
    lock.close();
  }
}

async function installIntoStore(options: InstallOptions): Promise<Installed> {
  const bytes = readRegular(options.image);
  const digest = verityDigest(bytes);
  const needed = neededObjects(options.image, bytes);
  const signature = readWherePresent(`${options.image}.sig`);
  if (signature !== undefined) options.checkSignature?.(`${options.image}.sig`, signature, digest);
  const missing = options.from.missing(options.store.missing(needed.map(({ path }) => path)));
  if (missing.length > 0) throw new ObjectsNotFound(missing);
  const image = join(options.into, basename(options.image));
  for (const path of [image, `${image}.sig`]) demandReplaceable(path);
  const newObjects = await copyObjects(needed, options);
  makeDirectory(options.into);
  using newImage = await prepareFile(image, bytes, { verity: true });
  await putInPlace(image, newImage, signature);
  return { digest, image, signature: besideOf(image, signature), objects: needed.length, newObjects };
}

/** What is installed of an image that needs no objects. */
export type InstallWholeOptions = Pick<InstallOptions, 'image' | 'into' | 'checkSignature'> & {
  /** Called after each block, with how many bytes are read by then and how many will be: the image is read twice. */
  readonly onProgress?: (done: number, all: number) => void;
};

/**
 * Copies an image that needs no objects, and its signature, as installImage does; it may be larger than memory. Throws StoreError,
 * what `checkSignature` throws, the system's error; then nothing was put in place.
 */
export async function installWhole(options: InstallWholeOptions): Promise<Installed> {
  const signature = readWherePresent(`${options.image}.sig`);
  const image = join(options.into, basename(options.image));
  for (const path of [image, `${image}.sig`]) demandReplaceable(path);
  const source = openRegular(options.image);
  try {
    const { size } = fstatSync(source);
    // It is read twice, so that nothing is written before the signature was looked at.
    const onBlock = (before: number) => (bytes: number) => options.onProgress?.(before + bytes, 2 * size);
    const { digest } = await measureContent(source, size, onBlock(0));
    if (signature !== undefined) options.checkSignature?.(`${options.image}.sig`, signature, digest);
    makeDirectory(options.into);
    using newImage = await UnfinishedFile.create(options.into);
    const copied = (await cloneContent(source, newImage.fd))
      ? await measureContent(newImage.fd, size, onBlock(size))
      : await copyContent(source, newImage.fd, size, onBlock(size));
    if (copied.digest !== digest) throw new StoreError(options.image, 'it changed while it was copied');
    await newImage.finish(0o644, true);
    await putInPlace(image, newImage, signature);
    return { digest, image, signature: besideOf(image, signature), objects: 0, newObjects: 0 };
  } finally {
    closeSync(source);
  }
}

function besideOf(image: string, signature: Uint8Array | undefined): string | undefined {
  return signature === undefined ? undefined : `${image}.sig`;
}

/** What comes last cannot fail for what lies there. */
function demandReplaceable(path: string): void {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status?.isDirectory() === true) throw new StoreError(path, 'a directory is in the way');
}

/**
 * Image and signature get their names when both are on the disk, one straight after the other: whoever looks in between
 * sees an image whose signature is another's, or is none, which is refused.
 */
async function putInPlace(
  image: string,
  newImage: UnfinishedFile,
  signature: Uint8Array | undefined,
): Promise<void> {
  const beside = `${image}.sig`;
  using newSignature =
    signature === undefined ? undefined : await prepareFile(beside, signature, { verity: false });
  if (newSignature === undefined) rmSync(beside, { force: true });
  else newSignature.replace(beside);
  newImage.replace(image);
  await synchronizeDirectory(dirname(image));
}

function readRegular(path: string): Uint8Array {
  const fd = openRegular(path);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The objects of an image. Throws StoreError for one that is not named by its digest: nothing would check it. */
function neededObjects(path: string, image: Uint8Array): { path: string; digest: Digest }[] {
  const scan = scanImage(image);
  return scan.objects.map((object, index) => {
    const digest = objectDigest(object);
    // A path that is no digest could also lead out of the store.
    if (digest === undefined || (scan.objectDigests[index] ?? digest) !== digest)
      throw new StoreError(path, `the image needs the object "${object}", which is not named by its digest`);
    return { path: object, digest };
  });
}

async function copyObjects(
  needed: readonly { readonly path: string; readonly digest: Digest }[],
  options: InstallOptions,
): Promise<number> {
  const slots = new Slots(objectsAtOnceMax);
  let [done, newObjects] = [0, 0];
  try {
    for (const object of needed) {
      await slots.free();
      slots.begin(async () => {
        if (await installObject(object.path, object.digest, options)) newObjects++;
        done++;
        options.onProgress?.(done, needed.length);
      });
    }
    await slots.finish();
  } finally {
    await slots.settle();
  }
  await options.store.sync();
  return newObjects;
}

/** Whether the object is new in the store. */
async function installObject(path: string, digest: Digest, options: InstallOptions): Promise<boolean> {
  if (options.store.has(path)) {
    await confirmObject(join(options.store.path, path), digest);
    return false;
  }
  const here = join(options.from.path, path);
  const source = openRegular(here);
  try {
    return (await options.store.add(source, digest)).isNew;
  } catch (error) {
    // Of the two stores, the one that the object comes from is the one to look into.
    if (error instanceof StoreError && error.path === path) throw new StoreError(here, error.reason);
    throw error;
  } finally {
    closeSync(source);
  }
}

/** Makes sure that the object is sound, and immutable where the filesystem has fs-verity. */
async function confirmObject(path: string, digest: Digest): Promise<void> {
  const found = await checkObject(path, digest);
  if (typeof found === 'string') throw new StoreError(path, found);
  if (found.verity) return;
  const fd = openRegular(path);
  try {
    enableVerity(fd);
  } finally {
    closeSync(fd);
  }
}

function readWherePresent(path: string): Uint8Array | undefined {
  try {
    return readRegular(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
