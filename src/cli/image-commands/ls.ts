import type { Command } from 'commander';

import { readTree } from '../../composefs/read.ts';
import type { Tree } from '../../composefs/tree.ts';
import { printJson } from '../output.ts';
import { describeInode } from './describe-inode.ts';
import { explained } from './explained.ts';
import { printable } from './printable.ts';
import { readImageOfFiles } from './read-image.ts';
import type { TreePath } from './walk-tree.ts';
import { walkTree } from './walk-tree.ts';
import { printLines } from './print-lines.ts';

/** Adds `ls IMAGE`. */
export function addLsCommand(program: Command): void {
  program
    .command('ls')
    .summary('list the files of an image')
    .description('Lists the files of an image: type and mode, owner, size, path.')
    .argument('<IMAGE>', 'the image')
    .option('--json', 'print as JSON')
    .action((image: string, options: { json?: true }) => runLs(image, options));
}

async function runLs(path: string, options: { readonly json?: true }): Promise<void> {
  const tree = await explained(path, () => readTree(readImageOfFiles(path)));
  if (options.json === true) printJson([...walkTree(tree)].map(describeInode));
  else printLines(formatListing(tree));
}

/** One line for each name: type and mode, owner, size, path; columns are as wide as their widest field. */
function formatListing(tree: Tree): string[] {
  const rows = [...walkTree(tree)].map((entry) => ({ fields: fieldsOf(entry), entry }));
  const widths = [0, 1, 2].map((column) =>
    rows.reduce((widest, { fields }) => Math.max(widest, fields[column]?.length ?? 0), 0),
  );
  return rows.map(({ fields, entry }) => {
    const columns = fields.map((field, column) => field.padStart(widths[column] ?? 0));
    const target = entry.inode.type === 'symlink' ? ` -> ${printable(entry.inode.target)}` : '';
    return `${columns.join(' ')} ${printable(entry.path)}${target}`;
  });
}

function fieldsOf({ inode }: TreePath): string[] {
  return [modeText(inode.type, inode.mode), `${inode.uid}:${inode.gid}`, sizeText(inode)];
}

function sizeText(inode: TreePath['inode']): string {
  if (inode.type === 'file') return String(inode.size);
  if (inode.type !== 'character' && inode.type !== 'block') return '-';
  // The layout of the kernel's new_encode_dev(): twelve bits of major between twenty of minor.
  const major = (inode.rdev >>> 8) & 0xfff;
  const minor = (inode.rdev & 0xff) | ((inode.rdev >>> 12) & 0xfff00);
  return `${major},${minor}`;
}

const typeLetters: Readonly<Record<TreePath['inode']['type'], string>> = {
  directory: 'd',
  file: '-',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  character: 'c',
  block: 'b',
};

/** Type and permissions as ls(1) writes them. */
function modeText(type: TreePath['inode']['type'], mode: number): string {
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = (mode >>> shift) & 7;
    const execute = (bits & 1) !== 0;
    const last = (mode & special) === 0 ? (execute ? 'x' : '-') : execute ? letter : letter.toUpperCase();
    return `${(bits & 4) === 0 ? '-' : 'r'}${(bits & 2) === 0 ? '-' : 'w'}${last}`;
  };
  return typeLetters[type] + triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't');
}
