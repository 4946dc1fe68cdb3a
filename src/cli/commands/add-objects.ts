import type { Command } from 'commander';
import type { FoundObject, ImageSource, UploadedObjects } from '../../client/client.ts';
import {
  defaultSocketPath,
  explainError,
  ObjectRefused,
  uploadObjects,
  VarlinkError,
} from '../../client/client.ts';
import { scanImage } from '../../composefs/scan.ts';
import { isSyscallError } from '../../sys/errno.ts';
import { CommandError } from '../command-error.ts';
import { findObjects } from '../find-objects.ts';
import { explained } from '../image-commands/explained.ts';
import { formatSize, Progress } from '../image-commands/progress.ts';
import { readImage } from '../image-commands/read-image.ts';
import { fileErrorReason } from '../input-file.ts';
import { installedName } from '../mount-inputs.ts';
import { print, printJson } from '../output.ts';
import { collect } from '../usage.ts';
import { withClient } from '../with-client.ts';

interface AddObjectsCommandOptions {
  readonly from: string;
  readonly signature?: readonly string[];
  readonly store?: string;
  readonly unsigned?: true;
  readonly socket: string;
  readonly quiet?: true;
  readonly json?: true;
}

const explanation = `
The service copies the files: each is checked against the image, which says what is in it, and nothing else gets into the store.
The rule of the policy that lets the image in has to let you add files (add-objects); how much you add within an hour is limited.
What was added stays when the command ends early, and running it again goes on from there.

DIR is looked at in two ways. Where it is a store, with files named by their digests (ab/cdef...), they are found by name.
Otherwise, and for what is not found so, the files below it are read; their names do not matter.

Exits 0 when the store has every file of the image, and 1 otherwise.

Example: a rootless user has the image tools.cfs, its signature tools.cfs.sig, and the unpacked tree
  cfs-mountctl add-objects tools.cfs --from rootfs/
  unshare --user --map-root-user --mount sh -c 'mount -t cfs-delegated tools.cfs /mnt && ls /mnt'
`;

/** Adds `add-objects IMAGE --from DIR …`. */
export function addAddObjectsCommand(program: Command): void {
  program
    .command('add-objects')
    .summary('have the service add the files of an image to a store')
    .description(
      'Has cfs-mountd add the files that an image needs, and a store of the policy lacks, from a directory of yours.',
    )
    .argument('<IMAGE>', 'a file, or name:NAME or sha256:HEX for an image that the administrator installed')
    .requiredOption('--from <DIR>', 'where the files are: a store, or any tree that holds them')
    .option<readonly string[]>(
      '-s, --signature <FILE>',
      'a signature of the image; repeatable (default: IMAGE.sig where it exists)',
      collect,
    )
    .option('--store <NAME>', "one of the policy's stores (default: the first that the rule names)")
    .option('--unsigned', 'let a rule for unsigned images apply')
    .option('--socket <PATH>', "the service's socket", defaultSocketPath)
    .option('--quiet', 'show no progress')
    .option('--json', 'print JSON')
    .addHelpText('after', explanation)
    .action(runAddObjects);
}

async function runAddObjects(image: string, options: AddObjectsCommandOptions): Promise<void> {
  const source = sourceOf(image);
  const uploaded = await withClient(options.socket, (client) =>
    upload(image, options, (progress) =>
      uploadObjects(client, {
        image: source,
        signatures: options.signature,
        allowUnsigned: options.unsigned,
        store: options.store,
        find: (objects) => find(objects, image, source, options, progress),
        onProgress: (done, all) => {
          progress.showPart(done.bytes, all.bytes, `${done.files} of ${all.files} files`);
        },
      }),
    ),
  );
  report(image, uploaded, options);
}

/** Runs it with progress, and says what went wrong, of which file. */
async function upload<Result>(
  image: string,
  options: AddObjectsCommandOptions,
  work: (progress: Progress) => Promise<Result>,
): Promise<Result> {
  using progress = new Progress({ quiet: options.quiet === true });
  try {
    return await work(progress);
  } catch (error) {
    if (error instanceof ObjectRefused) throw new CommandError(explainError(error));
    if (error instanceof VarlinkError || error instanceof RangeError)
      throw new CommandError(`${image}: ${explainError(error)}`);
    // Of files that vanished or cannot be opened: the detail is the path.
    if (isSyscallError(error))
      throw new CommandError(`${error.detail ?? image}: ${fileErrorReason(error) ?? error.code}`);
    throw error;
  }
}

function sourceOf(image: string): ImageSource {
  const name = installedName(image);
  return name === undefined ? { path: image } : { name };
}

async function find(
  objects: readonly string[],
  image: string,
  source: ImageSource,
  { from }: AddObjectsCommandOptions,
  shown: Progress,
): Promise<ReadonlyMap<string, FoundObject>> {
  // What an installed image holds only the service knows.
  const scan = 'path' in source ? await explained(image, () => scanImage(readImage(image))) : undefined;
  return explained(from, () =>
    findObjects(objects, {
      directory: from,
      sizes: scan && new Set(scan.objectSizes),
      onProgress: (files, bytes) => {
        shown.show(() => `looking for files: ${files} read, ${formatSize(bytes)}`);
      },
    }),
  );
}

function report(image: string, uploaded: UploadedObjects, { from, json }: AddObjectsCommandOptions): void {
  const { evidence, store, added, missing } = uploaded;
  if (json === true) printJson({ image, ...evidence, store, added, missing });
  else if (added.files > 0)
    print(`${added.files} files, ${formatSize(added.bytes)}, added to the store "${store}"`);
  else if (missing.length === 0) print(`the store "${store}" has every file of the image already`);
  if (missing.length === 0) return;
  const shown = missing.slice(0, 3).join(', ') + (missing.length > 3 ? ', …' : '');
  throw new CommandError(`${from}: ${missing.length} of the image’s files are not there (${shown})`);
}
