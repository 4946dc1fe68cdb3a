import { parseDumpLine } from './dump-line.ts';
import { escapeText } from './dump-text.ts';
import { DumpError } from './errors.ts';
import { nameFault } from './tree-check.ts';
import type { Inode, NonDirectory, Tree } from './tree.ts';

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
