import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sid } from './sid.ts';

/** What systemd-repart is to make. */
export interface RepartInput {
  /** An empty folder to work in. */
  readonly folder: string;
  /** The tree that CopyFiles= copies from. */
  readonly tree: string;
  /** The lines of each partition's definition (repart.d(5)), in order. */
  readonly partitions: readonly (readonly string[])[];
  readonly sectorBytes?: number;
  /** Files with the key and the certificate that sign root hashes, in PEM. */
  readonly key?: string;
  readonly certificate?: string;
}

/** A disk image by systemd-repart of Debian sid, made without a loop device. */
export function repart(input: RepartInput): Buffer {
  const definitions = join(input.folder, 'repart.d');
  mkdirSync(definitions);
  input.partitions.forEach((lines, index) => {
    const text = ['[Partition]', ...lines, ''].join('\n');
    writeFileSync(join(definitions, `${String(index).padStart(2, '0')}.conf`), text);
  });
  const image = join(input.folder, 'image.raw');
  const [program = '', ...parameters] =
    sid(
      'systemd-repart',
      '--empty=create',
      '--size=auto',
      '--offline=yes',
      '--dry-run=no',
      `--definitions=${definitions}`,
      `--root=${input.tree}`,
      `--sector-size=${input.sectorBytes ?? 512}`,
      ...(input.key === undefined ? [] : [`--private-key=${input.key}`]),
      ...(input.certificate === undefined ? [] : [`--certificate=${input.certificate}`]),
      image,
    ) ?? [];
  execFileSync(program, parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
  return readFileSync(image);
}
