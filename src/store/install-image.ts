import { closeSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import type { Digest } from '../base/digest.ts';
import { scanImage } from '../composefs/scan.ts';
import { enableVerity } from '../sys/verity.ts';
import { verityDigest } from '../verity/verity.ts';
import { checkObject } from './check-store.ts';
import type { ObjectStore } from './objects.ts';
import { makeDirectory } from './make-directory.ts';
import { objectDigest, openRegular, StoreError } from './objects.ts';
import { lockStore } from './store-lock.ts';
import { Slots } from './slots.ts';
import { errorCode } from './unfinished-file.ts';
import { writeFileWhole } from './write-file-whole.ts';

const objectsAtOnceMax = 8;

/** What is installed from where to where: `into` is an image directory of a policy, `store` one of its stores. */
export interface InstallOptions {
  readonly image: string;
  readonly from: ObjectStore;
  readonly into: string;
  readonly store: ObjectStore;
  /** Called after each object, with how many there are in the store by then and how many there will be. */
  readonly onProgress?: (done: number, all: number) => void;
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
 * there once everything else is. Each object is hashed on the way, also those that the store has already; every file
 * gets fs-verity where the filesystem has it. Throws StoreError for what is missing or damaged, ImageError for an
 * image that is; whatever was complete by then stays.
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
  const needed = neededObjects(options.image, bytes);
  const newObjects = await copyObjects(needed, options);
  makeDirectory(options.into);
  const image = join(options.into, basename(options.image));
  const signature = readWherePresent(`${options.image}.sig`);
  if (signature !== undefined) await writeFileWhole(`${image}.sig`, signature, { verity: false });
  await writeFileWhole(image, bytes, { verity: true });
  return {
    digest: verityDigest(bytes),
    image,
    signature: signature === undefined ? undefined : `${image}.sig`,
    objects: needed.length,
    newObjects,
  };
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
  if (!options.from.has(path)) throw new StoreError(here, 'the image needs this object, and it is not there');
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
