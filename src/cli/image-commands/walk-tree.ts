import type { Directory, Inode, Tree } from '../../composefs/tree.ts';

/** A name in a tree: its path from the root (a binary string, `/` for the root), what it stands for, and whether that inode was not met before. */
export interface TreePath {
  readonly path: string;
  readonly inode: Inode;
  readonly first: boolean;
}

/** Every name of a tree, a directory before what is in it, names in the order of their bytes. */
export function* walkTree(tree: Tree): Generator<TreePath, void, undefined> {
  const met = new Set<Inode>();
  // A stack instead of recursion: an image may be as deep as its maker liked.
  const stack: { path: string; inode: Inode }[] = [{ path: '/', inode: tree.root }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { path, inode } = next;
    yield { path, inode, first: !met.has(inode) };
    met.add(inode);
    if (inode.type !== 'directory') continue;
    for (const [name, child] of sortedBackwards(inode))
      stack.push({ path: `${path === '/' ? '' : path}/${name}`, inode: child });
  }
}

function sortedBackwards(directory: Directory): [string, Inode][] {
  return [...directory.entries]
    .map(([name, entry]): [string, Inode] => [name, entry.type === 'link' ? entry.target : entry])
    .sort(([a], [b]) => (a < b ? 1 : -1));
}
