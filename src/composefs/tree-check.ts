import { TreeError } from './errors.ts';
import { nameBytesMax, targetBytesMax } from './format.ts';
import type { Inode, RegularFile, Xattr } from './tree.ts';

/** mkcomposefs's limit for content inside the image (LCFS_INLINE_CONTENT_MAX), in bytes. */
export const inlineContentBytesMax = 5000;

/** mkcomposefs's limit: 1024 chunks of 8 TiB, so that a file's map of chunks fits into one block. */
export const externalFileBytesMax: number = 2 ** 53;

const uint32Max = 0xffffffff;
const xattrNameBytesMax = 255;
const xattrValueBytesMax = 65535;
/** mkcomposefs's limit for all attributes of an inode (LCFS_INODE_EXTERNAL_XATTR_MAX), in bytes. */
const xattrsBytesMax = 32767;

/** What is wrong with a name in a directory, or undefined. */
export function nameFault(name: string): string | undefined {
  if (name === '') return 'a name must not be empty';
  if (name === '.' || name === '..') return `a name must not be "${name}"`;
  if (name.length > nameBytesMax) return `a name must not have more than ${nameBytesMax} bytes`;
  if (name.includes('/') || name.includes('\0')) return 'a name must not hold "/" or a zero byte';
  return isBinaryString(name) ? undefined : 'a name must be a string of bytes';
}

/** What is wrong with a symbolic link's target, or undefined. */
export function targetFault(target: string): string | undefined {
  if (target === '') return 'the target of a symbolic link must not be empty';
  if (target.length > targetBytesMax) {
    return `the target of a symbolic link must not have more than ${targetBytesMax} bytes`;
  }
  if (target.includes('\0')) return 'the target of a symbolic link must not hold a zero byte';
  return isBinaryString(target) ? undefined : 'the target of a symbolic link must be a string of bytes';
}

/** What is wrong with a file's data, or undefined. */
export function fileFault(file: RegularFile): string | undefined {
  if (!Number.isInteger(file.size) || file.size < 0) return 'a size must be a whole number';
  if (file.content.kind === 'inline') {
    if (file.content.bytes.length !== file.size) {
      return `there are ${file.content.bytes.length} bytes of content for a size of ${file.size}`;
    }
    return file.size > inlineContentBytesMax
      ? `content in the image must not have more than ${inlineContentBytesMax} bytes`
      : undefined;
  }
  if (file.content.kind === 'stored') return `its content is not read from the image (${file.content.form})`;
  if (file.size > externalFileBytesMax) return `a file must not have more than ${externalFileBytesMax} bytes`;
  const { path } = file.content;
  if (path === undefined) return undefined;
  if (path.length > targetBytesMax)
    return `the path of a file's data must not have more than ${targetBytesMax} bytes`;
  return isBinaryString(path) && !path.includes('\0')
    ? undefined
    : "the path of a file's data must be bytes without zeros";
}

/** What is wrong with extended attributes, or undefined. */
export function xattrsFault(xattrs: readonly Xattr[]): string | undefined {
  let bytes = 12;
  const names = new Set<string>();
  for (const { name, value } of xattrs) {
    if (name === '' || name.length > xattrNameBytesMax) {
      return `the name of an extended attribute must have 1 to ${xattrNameBytesMax} bytes`;
    }
    if (!isBinaryString(name) || name.includes('\0'))
      return 'the name of an extended attribute must be bytes without zeros';
    if (value.length > xattrValueBytesMax) {
      return `an extended attribute must not have more than ${xattrValueBytesMax} bytes`;
    }
    if (names.has(name)) return `the extended attribute ${JSON.stringify(name)} is given twice`;
    names.add(name);
    // An entry's header and the worst alignment, as mkcomposefs counts.
    bytes += 7 + name.length + value.length;
  }
  if (xattrs.length > 0 && bytes > xattrsBytesMax) {
    return `the extended attributes of an inode must not have more than ${xattrsBytesMax} bytes together`;
  }
  return undefined;
}

/** Throws TreeError unless `name` can stand in a directory; `path` is the directory's. */
export function checkName(name: string, path: string): void {
  const fault = nameFault(name);
  if (fault !== undefined) throw new TreeError(`${path}/${name}`, fault);
}

/** Throws TreeError unless an image can hold the inode. Entries of a directory are not looked at. */
export function checkInode(inode: Inode, path: string): void {
  const fault = inodeFault(inode);
  if (fault !== undefined) throw new TreeError(path, fault);
}

function inodeFault(inode: Inode): string | undefined {
  if (!isUint(inode.mode, 0o7777)) return 'the mode must be permission bits';
  if (!isUint(inode.uid, uint32Max) || !isUint(inode.gid, uint32Max))
    return 'the owner must be a 32-bit number';
  if (!isUint(inode.mtime.nanoseconds, 999_999_999)) return 'nanoseconds must be below a thousand million';
  if (BigInt.asIntN(64, inode.mtime.seconds) !== inode.mtime.seconds) return 'the time must fit into 64 bits';
  if (inode.type !== 'directory' && !isUint(inode.nlink, uint32Max))
    return 'the count of links must be a 32-bit number';
  return xattrsFault(inode.xattrs) ?? typeFault(inode);
}

function typeFault(inode: Inode): string | undefined {
  switch (inode.type) {
    case 'symlink':
      return targetFault(inode.target);
    case 'file':
      return fileFault(inode);
    case 'character':
    case 'block':
      return isUint(inode.rdev, uint32Max) ? undefined : 'a device number must be a 32-bit number';
    case 'directory':
    case 'fifo':
    case 'socket':
      return undefined;
  }
}

function isUint(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}

function isBinaryString(text: string): boolean {
  // A string that V8 holds with one byte for each character cannot match, and is not even looked at.
  return !/[^\0-\xff]/.test(text);
}
