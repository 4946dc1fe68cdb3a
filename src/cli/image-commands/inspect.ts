import type { Command } from 'commander';

import type { Digest } from '../../base/digest.ts';
import { readTree } from '../../composefs/read.ts';
import type { ImageScan } from '../../composefs/scan.ts';
import { scanImage } from '../../composefs/scan.ts';
import type { Inode, StoredForm } from '../../composefs/tree.ts';
import { isScanned } from '../../trust/file-system.ts';
import { looksLikeSignature } from '../../trust/inspect-signature.ts';
import { verityDigest } from '../../verity/verity.ts';
import { fileSystemOfImage } from '../file-system-of-image.ts';
import { printJson } from '../output.ts';
import { explained } from './explained.ts';
import { inspectDisk } from './inspect-disk.ts';
import { inspectSuperblock } from './inspect-superblock.ts';
import { printable } from './printable.ts';
import { formatSize } from './progress.ts';
import { showSignature } from './show-signature.ts';
import { readImage } from './read-image.ts';
import { walkTree } from './walk-tree.ts';
import { printLines } from './print-lines.ts';

/** Adds `inspect IMAGE`. */
export function addInspectCommand(program: Command): void {
  program
    .command('inspect')
    .summary('show what an image or a signature file holds')
    .description(
      'Shows a summary of what an image holds and needs. Of a signature file, of each format that rules can take, it shows what ' +
        'is stated, by which keys it claims to be signed, and the certificates that came along. It verifies none: see verify.',
    )
    .argument('<FILE>', 'an image, or a signature file')
    .option('--json', 'print as JSON')
    .action((file: string, options: { json?: true }) => runInspect(file, options));
}

async function runInspect(path: string, options: { readonly json?: true }): Promise<void> {
  const seen = await explained(path, () => fileSystemOfImage(path));
  if (seen === 'ddi') {
    inspectDisk(path, options);
    return;
  }
  if (seen !== undefined && !isScanned(seen)) {
    inspectSuperblock(path, seen, options);
    return;
  }
  const bytes = await explained(path, () => readImage(path));
  // An EROFS image may begin with any bytes, such as those of a signature.
  if (seen === undefined && looksLikeSignature(bytes)) {
    showSignature(path, bytes, options);
    return;
  }
  const { digest, scan, contents } = await explained(path, () => {
    return { digest: verityDigest(bytes), scan: scanImage(bytes), contents: countContents(bytes) };
  });
  if (options.json === true) printJson(describe(digest, scan, contents));
  else printLines(summarize(digest, scan, contents));
}

function describe(digest: Digest, scan: ImageScan, contents: Contents): Record<string, unknown> {
  return {
    digest,
    fileSystem: scan.fileSystem,
    ...(scan.formatVersion === undefined ? {} : { formatVersion: scan.formatVersion }),
    bytes: scan.bytes,
    inodes: sum(contents.types),
    ...contents,
    objects: scan.objects.length,
    missingDigest: scan.missingDigest,
    devices: scan.devices,
    ...(scan.devicePath === undefined ? {} : { devicePath: printable(scan.devicePath) }),
  };
}

function summarize(digest: Digest, scan: ImageScan, contents: Contents): string[] {
  return [
    `Digest:        ${digest}`,
    `File system:   ${scan.fileSystem}${scan.formatVersion === undefined ? '' : `, format version ${scan.formatVersion}`}`,
    `Image size:    ${formatSize(scan.bytes)}`,
    `Inodes:        ${sum(contents.types)}: ${formatTypes(contents.types)}`,
    `Contents:      ${formatSize(contents.contentBytes)}, of which ${formatSize(contents.inlineBytes)} in the image${formatStored(contents.stored)}`,
    `Objects:       ${scan.objects.length}${scan.missingDigest ? ', and some file names one without a digest' : ''}`,
    `Device nodes:  ${formatDevices(scan)}`,
  ];
}

interface Contents {
  /** How many inodes there are of each type. */
  readonly types: Readonly<Record<string, number>>;
  /** The sizes of all regular files, each inode once, in bytes. */
  readonly contentBytes: number;
  /** Those of them that are in the image itself. */
  readonly inlineBytes: number;
  /** How many files of a plain EROFS image are not kept there as they are. */
  readonly stored: Readonly<Record<StoredForm, number>>;
}

function countContents(image: Uint8Array): Contents {
  const types: Record<string, number> = {};
  let [contentBytes, inlineBytes] = [0, 0];
  const stored = { compressed: 0, chunks: 0 };
  const count = (inode: Inode): void => {
    types[inode.type] = (types[inode.type] ?? 0) + 1;
    if (inode.type !== 'file') return;
    contentBytes += inode.size;
    if (inode.content.kind !== 'external') inlineBytes += inode.size;
    if (inode.content.kind === 'stored') stored[inode.content.form] += 1;
  };
  for (const { inode, first } of walkTree(readTree(image))) if (first) count(inode);
  return { types, contentBytes, inlineBytes, stored };
}

function formatStored({ compressed, chunks }: Contents['stored']): string {
  const parts = [
    ...(compressed === 0 ? [] : [`${compressed} compressed`]),
    ...(chunks === 0 ? [] : [`${chunks} in chunks`]),
  ];
  return parts.length === 0 ? '' : `; of the files, ${parts.join(', ')}`;
}

function sum(types: Contents['types']): number {
  return Object.values(types).reduce((all, count) => all + count, 0);
}

const nouns: Readonly<Record<string, readonly [one: string, more: string]>> = {
  directory: ['directory', 'directories'],
  file: ['file', 'files'],
  symlink: ['symbolic link', 'symbolic links'],
  fifo: ['named pipe', 'named pipes'],
  socket: ['socket', 'sockets'],
  character: ['character device', 'character devices'],
  block: ['block device', 'block devices'],
};

function formatTypes(types: Readonly<Record<string, number>>): string {
  return Object.entries(nouns)
    .filter(([type]) => types[type] !== undefined)
    .map(([type, [one, more]]) => `${types[type] ?? 0} ${types[type] === 1 ? one : more}`)
    .join(', ');
}

function formatDevices(scan: ImageScan): string {
  if (!scan.devices) return 'none (overlayfs whiteouts do not count)';
  return scan.devicePath === undefined ? 'yes' : `yes, first ${printable(scan.devicePath)}`;
}
