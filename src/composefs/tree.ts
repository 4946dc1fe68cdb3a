import type { Digest } from '../base/digest.ts';

/**
 * A file tree as plain data: what a composefs image holds. Names, link targets, paths and the names of extended
 * attributes are "binary strings": each character is one byte (latin1), so that names that are not UTF-8 survive.
 * `Buffer.from(name, 'latin1')` gives the bytes, and comparing two such strings compares their bytes.
 */
export interface Tree {
  readonly root: Directory;
}

/** A point in time; `nanoseconds` is 0 to 999,999,999 and counts forward also before 1970. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

/** An extended attribute with its full name (`user.foo`), as overlayfs shows it: nothing escaped. */
export interface Xattr {
  readonly name: string;
  readonly value: Uint8Array;
}

/** What every inode has. `mode` is the permission bits alone (0 to 0o7777); the type is in `type`. */
export interface InodeAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Timestamp;
  readonly xattrs: readonly Xattr[];
}

/** A directory. Its entries never include `.` and `..`; their order does not matter. */
export interface Directory extends InodeAttributes {
  readonly type: 'directory';
  readonly entries: Map<string, Entry>;
}

/** How plain EROFS may have a file's bytes: in chunks that files share, or compressed. */
export type StoredForm = 'chunks' | 'compressed';

/**
 * Where a file's bytes are: in the image itself, or in a file below the object store: `path` relative to it
 * ("ab/cdef…"), and the fs-verity digest that overlayfs checks. An external file without a path is full of zeros.
 * Bytes that a plain EROFS image has in another form are not read: no composefs image can be made of them.
 */
export type FileContent =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'external'; readonly path: string | undefined; readonly digest: Digest | undefined }
  | { readonly kind: 'stored'; readonly form: StoredForm };

/** A regular file of `size` bytes. An empty one is inline with no bytes. `nlink` is how many names it has. */
export interface RegularFile extends InodeAttributes {
  readonly type: 'file';
  readonly size: number;
  readonly content: FileContent;
  readonly nlink: number;
}

/** A symbolic link. */
export interface Symlink extends InodeAttributes {
  readonly type: 'symlink';
  readonly target: string;
  readonly nlink: number;
}

/** A device node; `rdev` is the low 32 bits of st_rdev. A character device 0 is an overlayfs whiteout. */
export interface DeviceNode extends InodeAttributes {
  readonly type: 'character' | 'block';
  readonly rdev: number;
  readonly nlink: number;
}

/** A named pipe or a socket. */
export interface PipeOrSocket extends InodeAttributes {
  readonly type: 'fifo' | 'socket';
  readonly nlink: number;
}

/** Everything that can have several names. */
export type NonDirectory = RegularFile | Symlink | DeviceNode | PipeOrSocket;

/** Everything that an image stores as an inode. */
export type Inode = Directory | NonDirectory;

/**
 * A further name of an inode whose first name is elsewhere in the tree. The inode's place in an image follows the
 * entry that holds the inode itself. (A name that holds an inode already reached counts as a link as well.)
 */
export interface HardLink {
  readonly type: 'link';
  readonly target: NonDirectory;
}

/** What a name in a directory stands for. */
export type Entry = Inode | HardLink;
