import { digestHex } from '../base/digest.ts';
import { parseDumpLine } from './dump-line.ts';
import { escapeOptional, escapeText, escapeXattr } from './dump-text.ts';
import { DumpError } from './errors.ts';
import { directoryBytes } from './layout.ts';
import { typeBits } from './modes.ts';
import { storeFolderNames } from './overlay.ts';
import { nameFault } from './tree-check.ts';
import type { Directory, Entry, Inode, NonDirectory, Tree } from './tree.ts';

/** A hard link whose target may come on a later line. */
interface PendingLink {
  readonly line: number;
  readonly path: string;
  readonly linkTo: string;
}

/** Lines so far: what stands at each path, "" being the root. */
interface Parse {
  readonly inodes: Map<string, Inode>;
  readonly links: Map<string, PendingLink>;
}

function bytesToText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** Splits "/a/b" into "/a" and "b". */
function splitPath(path: string): { parentPath: string; name: string } {
  const slash = path.lastIndexOf('/');
  return { parentPath: path.slice(0, slash), name: path.slice(slash + 1) };
}

function addLine(parse: Parse, text: string, line: number): void {
  const parsed = parseDumpLine(text, line);
  const { path } = parsed;
  if (path === '/') {
    if (!('inode' in parsed) || parsed.inode.type !== 'directory')
      throw new DumpError(line, 'the root is not a directory');
    if (parse.inodes.has('')) throw new DumpError(line, 'there is a second root');
    parse.inodes.set('', parsed.inode);
    return;
  }
  const { parentPath, name } = splitPath(path);
  const fault = nameFault(name);
  if (fault !== undefined) throw new DumpError(line, fault);
  const parent = parse.inodes.get(parentPath);
  if (parent?.type !== 'directory')
    throw new DumpError(line, `no line before gives the directory of ${escapeText(path)}`);
  if (parse.inodes.has(path) || parse.links.has(path))
    throw new DumpError(line, `${escapeText(path)} is given twice`);
  if ('inode' in parsed) {
    parse.inodes.set(path, parsed.inode);
    parent.entries.set(name, parsed.inode);
  } else {
    parse.links.set(path, { line, path, linkTo: parsed.linkTo });
  }
}

/** The inode that a hard link means in the end; links to links are followed. */
function linkTarget(parse: Parse, link: PendingLink): NonDirectory {
  let path = link.linkTo;
  for (let steps = 0; steps <= parse.links.size; steps++) {
    const next = parse.links.get(path);
    if (next === undefined) break;
    path = next.linkTo;
  }
  const target = path === '/' ? parse.inodes.get('') : parse.inodes.get(path);
  if (target === undefined)
    throw new DumpError(link.line, `no line gives the hard link's target ${escapeText(path)}`);
  if (target.type === 'directory') throw new DumpError(link.line, 'a directory cannot be a hard link');
  return target;
}

/**
 * The tree that a dump describes, as in composefs-dump(5). Sizes of directories and symbolic links are not looked at.
 * Throws DumpError.
 */
export function parseDump(dump: Uint8Array): Tree {
  const lines = bytesToText(dump).split('\n');
  if (lines.at(-1) === '') lines.pop();
  const parse: Parse = { inodes: new Map(), links: new Map() };
  lines.forEach((text, index) => {
    addLine(parse, text, index + 1);
  });
  const root = parse.inodes.get('');
  if (root?.type !== 'directory') throw new DumpError(0, 'there is no line');
  for (const link of parse.links.values()) {
    const { parentPath, name } = splitPath(link.path);
    const parent = parse.inodes.get(parentPath);
    if (parent?.type === 'directory')
      parent.entries.set(name, { type: 'link', target: linkTarget(parse, link) });
  }
  return { root };
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

/** The dump of `tree`, as `composefs-info dump` prints it: depth first, names sorted by bytes. */
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
