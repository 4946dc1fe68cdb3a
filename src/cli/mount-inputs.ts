import { existsSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import { parseDigest } from '../base/digest.ts';
import { openImmutableImage } from '../client/client.ts';
import type { ImageSource, ImmutableImage, StoreSource } from '../client/client.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { openFile, pread } from '../sys/file.ts';
import { VerityHasher } from '../verity/verity.ts';
import { CommandError } from './command-error.ts';
import type { DelegatedOptions } from './delegated-options.ts';
import { fileErrorReason, readInputFile } from './input-file.ts';

/** Everything that a mount needs of the files of the caller, open, so that the namespace can be left. */
export interface MountInputs extends Disposable {
  readonly image: ImageSource;
  readonly signatures: readonly Uint8Array[];
  readonly stores: readonly StoreSource[];
  /** The image's digest, measured here; undefined for an image by name, of which only the service knows. */
  digest(): Digest | undefined;
}

const mountFailure = 32;
/** The service takes less; this only keeps a wrong file from filling the memory. */
const signatureBytesMax = 1024 * 1024;
const namePrefix = 'name:';

/**
 * Opens what IMAGE and the options name: IMAGE is `name:NAME`, `sha256:HEX`, or else a file, which is copied into a sealed
 * memfd where it could change. Throws CommandError, exit code 32.
 */
export function openMountInputs(image: string, options: DelegatedOptions): MountInputs {
  const opened: OwnedFd[] = [];
  const close = (): void => {
    for (const fd of opened) fd.close();
  };
  try {
    const signatures = signatureFiles(image, options).map((path) =>
      withCode(path, () => readSignature(path)),
    );
    const stores = options.basedirs.map((path) => {
      const directory = withCode(path, () => openFile(path, { directory: true }));
      opened.push(directory);
      return { fd: directory.number };
    });
    const name = installedName(image);
    if (name === '') throw new CommandError(`${namePrefix} needs a name: ${namePrefix}NAME`);
    if (image.startsWith('sha256:') && name === undefined && !existsSync(image))
      throw new CommandError(`${image}: a digest is sha256: and 64 lower-case hexadecimal digits`);
    if (name !== undefined) {
      return {
        image: { name },
        signatures,
        stores,
        digest: () => parseDigest(name),
        [Symbol.dispose]: close,
      };
    }
    const file = withCode(image, () => openImmutableImage(image));
    opened.push(file.fd);
    return {
      image: { fd: file.fd.number },
      signatures,
      stores,
      digest: () => file.digest ?? measure(file),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** What the service calls it, where IMAGE is no file: the path below an image directory, or the digest. */
export function installedName(image: string): string | undefined {
  if (image.startsWith(namePrefix)) return image.slice(namePrefix.length);
  return parseDigest(image);
}

function signatureFiles(image: string, { signatures }: DelegatedOptions): readonly string[] {
  if (signatures.length > 0 || installedName(image) !== undefined) return signatures;
  const beside = `${image}.sig`;
  return existsSync(beside) ? [beside] : [];
}

function readSignature(path: string): Uint8Array {
  return readInputFile(path, signatureBytesMax);
}

function withCode<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof CommandError) throw new CommandError(error.message, mountFailure);
    if (error instanceof RangeError) throw new CommandError(error.message, mountFailure);
    const reason = fileErrorReason(error);
    if (reason === undefined) throw error;
    throw new CommandError(`${path}: ${reason}`, mountFailure);
  }
}

const chunkBytes = 1024 * 1024;

function measure(image: ImmutableImage): Digest {
  const hasher = new VerityHasher();
  const chunk = Buffer.allocUnsafe(chunkBytes);
  for (let position = 0; ;) {
    const count = pread(image.fd.number, chunk, position);
    hasher.update(chunk.subarray(0, count));
    if (count < chunk.length) return hasher.digest();
    position += count;
  }
}
