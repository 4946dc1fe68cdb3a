import { toBase64 } from '../../base/bytes.ts';
import type { FileContent, Inode } from '../../composefs/tree.ts';
import { printable, utf8 } from './printable.ts';
import type { TreePath } from './walk-tree.ts';

/** A plain JSON object about one name of an image; `first` is false for the second and later names of an inode. */
export function describeInode({ path, inode, first }: TreePath): Record<string, unknown> {
  return {
    ...text('path', path),
    type: inode.type,
    mode: inode.mode.toString(8).padStart(4, '0'),
    uid: inode.uid,
    gid: inode.gid,
    mtime: `${inode.mtime.seconds}.${String(inode.mtime.nanoseconds).padStart(9, '0')}`,
    ...(first ? {} : { hardLink: true }),
    ...describeType(inode),
    ...(inode.xattrs.length === 0 ? {} : { xattrs: inode.xattrs.map(describeXattr) }),
  };
}

function describeType(inode: Inode): Record<string, unknown> {
  switch (inode.type) {
    case 'file':
      return {
        size: inode.size,
        nlink: inode.nlink,
        ...describeContent(inode.content),
      };
    case 'symlink':
      return { ...text('target', inode.target), nlink: inode.nlink };
    case 'character':
    case 'block':
      return { rdev: inode.rdev, nlink: inode.nlink };
    case 'fifo':
    case 'socket':
      return { nlink: inode.nlink };
    case 'directory':
      return {};
  }
}

/** Content that is not read is named by its form: "compressed" or "chunks". */
function describeContent(content: FileContent): Record<string, unknown> {
  if (content.kind === 'stored') return { stored: content.form };
  if (content.kind === 'inline') return { inlineBase64: toBase64(content.bytes) };
  return {
    ...(content.path === undefined ? {} : text('object', content.path)),
    ...(content.digest === undefined ? {} : { digest: content.digest }),
  };
}

function describeXattr({ name, value }: { name: string; value: Uint8Array }): Record<string, unknown> {
  return { ...text('name', name), valueBase64: toBase64(value) };
}

/** A binary string as JSON: UTF-8 where it is; else with its bytes escaped, and as they are in `KEYBase64`. */
function text(key: string, binary: string): Record<string, string> {
  const decoded = utf8(binary);
  if (decoded !== undefined) return { [key]: decoded };
  return { [key]: printable(binary), [`${key}Base64`]: toBase64(Buffer.from(binary, 'latin1')) };
}
