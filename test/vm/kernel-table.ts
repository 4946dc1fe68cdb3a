import {
  images,
  levelsOf,
  sources,
  type CellFinding,
  type Finding,
  type KernelFinding,
} from './guest/findings.ts';

/** What one kernel did, in the order in which it was tried. */
export interface KernelRun {
  /** The kernel's name, as kernel.sh has it. */
  readonly kernel: string;
  readonly findings: readonly Finding[];
}

const begin = '<!-- kernels: written by the virtual machine tests -->';
const end = '<!-- end of kernels -->';

const sourceNames: Readonly<Record<CellFinding['source'], string>> = {
  installed: 'installed, by name',
  memfd: 'sealed memfd',
  'verity file': 'file with fs-verity',
};

/** The table of the README: for each kernel and image source, what works at which level. */
export function formatTable(runs: readonly KernelRun[]): string {
  const notes = new Notes();
  const rows = runs.flatMap((run) => rowsOf(run, notes));
  return [
    '| Linux | image given as | EROFS | squashfs | ext4 | xfs | btrfs | disk image (DDI) | DDI by its signed root hash | composefs, files inside | composefs: `require` | `if-present` | `never` |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
    ...notes.lines(),
    '',
  ].join('\n');
}

/** `text` with `table` between its marks. */
export function withTable(text: string, table: string): string {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error('the marks of the table are missing');
  return `${text.slice(0, from)}${begin}\n\n${table}\n${text.slice(to)}`;
}

function rowsOf({ kernel, findings }: KernelRun, notes: Notes): string[][] {
  const found = findings.find((finding) => finding.finding === 'kernel');
  if (found === undefined) throw new Error(`nothing is known of the kernel ${kernel}`);
  const cells = findings.filter((finding) => finding.finding === 'cell');
  return sources.map((source, index) => [
    index === 0 ? nameOf(kernel, found) : '',
    sourceNames[source],
    ...images.flatMap((image) => {
      const outcomes = levelsOf(image).map((level) => {
        const cell = cells.find(
          (each) => each.image === image && each.source === source && each.level === level,
        );
        if (cell === undefined) throw new Error(`${kernel}: ${image}, ${source}, ${level} was not tried`);
        return told(cell, notes);
      });
      // No file lies outside of these images, so that levels make no difference; where one does, it shows.
      return image === 'composefs' ? outcomes : [[...new Set(outcomes)].join(', ')];
    }),
  ]);
}

/** The kernel, and the ways that it leaves: releases beyond the first two parts change without anything else changing. */
function nameOf(kernel: string, { release, features }: KernelFinding): string {
  const [major, minor] = release.split('.');
  // Its release moves on while it is Debian's testing one.
  const version =
    kernel === 'forky' || kernel === 'uml' ? `${major ?? ''}.x` : `${major ?? ''}.${minor ?? ''}`;
  const where = kernel === 'uml' ? 'user-mode Linux' : `Debian ${kernel}`;
  const image = features['erofsFromFile'] === true ? 'image from its file' : 'image by loop device';
  return `${version} (${where}): ${image}, ${layersOf(features)}`;
}

function layersOf(features: Readonly<Record<string, boolean>>): string {
  if (features['overlayDetachedLayers'] === true) return 'layers as detached mounts';
  return features['overlayLowerdirPlus'] === true ? 'layers by path' : 'layers by path, all at once';
}

function told({ outcome, swapped }: CellFinding, notes: Notes): string {
  if (outcome !== 'mounted') return `no ${notes.mark(outcome)}`;
  if (swapped === undefined) return 'yes';
  return swapped === 'opened' ? 'unchecked' : `checked`;
}

/** Reasons, each said once beneath the table. */
class Notes {
  readonly #texts: string[] = [];

  mark(text: string): string {
    if (!this.#texts.includes(text)) this.#texts.push(text);
    return `(${this.#texts.indexOf(text) + 1})`;
  }

  lines(): string[] {
    if (this.#texts.length === 0) return [];
    return ['', ...this.#texts.map((text, index) => `(${index + 1}) ${text}`)];
  }
}
