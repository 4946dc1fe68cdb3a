import { digestHex } from '../../src/base/digest.ts';
import { escapeText } from '../../src/composefs/dump-text.ts';
import { directoryBytes } from '../../src/composefs/layout.ts';
import { typeBits } from '../../src/composefs/modes.ts';
import { storeFolderNames } from '../../src/composefs/overlay.ts';
import type { Directory, Entry, Inode, Tree } from '../../src/composefs/tree.ts';

/** A name or value of an extended attribute. */
function escapeXattr(text: string): string {
  return escapeText(text).replaceAll('=', '\\x3d');
}

/** A field that may be absent. */
function escapeOptional(text: string | undefined): string {
  if (text === undefined) return '-';
  return text === '-' ? '\\x2d' : escapeText(text);
}

function bytesToText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function inodeBytes(inode: Inode, isRoot: boolean): number {
  switch (inode.type) {
    case 'directory': {
      const names = new Set(inode.entries.keys());
      if (isRoot) for (const name of storeFolderNames) names.add(name);
      return directoryBytes(names);
    }
    case 'file':
      return inode.size;
    case 'symlink':
      return inode.target.length;
    case 'character':
    case 'block':
    case 'fifo':
    case 'socket':
      return 0;
  }
}

function linkCount(inode: Inode): number {
  if (inode.type !== 'directory') return inode.nlink;
  let count = 2;
  for (const entry of inode.entries.values()) if (entry.type === 'directory') count++;
  return count;
}

/** PAYLOAD, CONTENT and DIGEST. */
function dataFields(inode: Inode): [string, string, string] {
  if (inode.type === 'symlink') return [escapeOptional(inode.target), '-', '-'];
  if (inode.type !== 'file') return ['-', '-', '-'];
  const { content } = inode;
  if (content.kind === 'inline') {
    return ['-', escapeOptional(content.bytes.length > 0 ? bytesToText(content.bytes) : undefined), '-'];
  }
  if (content.kind === 'stored') throw new Error(`the content is not read (${content.form})`);
  return [escapeOptional(content.path), '-', content.digest === undefined ? '-' : digestHex(content.digest)];
}

function formatLine(path: string, inode: Inode, linkTo: string | undefined): string {
  const [payload, content, digest] = dataFields(inode);
  const fields = [
    escapeText(path === '' ? '/' : path),
    inodeBytes(inode, path === ''),
    `${linkTo === undefined ? '' : '@'}${(typeBits[inode.type] | inode.mode).toString(8)}`,
    linkCount(inode),
    inode.uid,
    inode.gid,
    inode.type === 'character' || inode.type === 'block' ? inode.rdev : 0,
    `${inode.mtime.seconds.toString()}.${inode.mtime.nanoseconds}`,
    linkTo === undefined ? payload : escapeOptional(linkTo),
    content,
    digest,
  ];
  const xattrs = inode.xattrs.map(
    ({ name, value }) => `${escapeXattr(name)}=${escapeXattr(bytesToText(value))}`,
  );
  return `${[...fields, ...xattrs].join(' ')}\n`;
}

function sortedEntries(directory: Directory): [string, Entry][] {
  return [...directory.entries].sort(([a], [b]) => (a < b ? -1 : 1));
}

/**
 * The dump of `tree`, as `composefs-info dump` prints the image of it: depth first, names sorted by bytes. A model that
 * shares nothing with the program's own, which reads an image's bytes.
 */
export function formatDump(tree: Tree): Uint8Array {
  const lines: string[] = [];
  const firstPath = new Map<Inode, string>();
  const stack: [string, Entry][] = [['', tree.root]];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [path, entry] = next;
    const inode = entry.type === 'link' ? entry.target : entry;
    lines.push(formatLine(path, inode, firstPath.get(inode)));
    if (inode.type !== 'directory') {
      if (!firstPath.has(inode)) firstPath.set(inode, path);
      continue;
    }
    for (const [name, child] of sortedEntries(inode).reverse()) stack.push([`${path}/${name}`, child]);
  }
  return Buffer.from(lines.join(''), 'latin1');
}
