/**
 * Names that overlayfs gives meaning to, and how composefs keeps an image's own attributes apart from them
 * (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts"): what overlayfs strips, the image escapes.
 */

/** Everything below this belongs to the overlayfs that mounts the image. */
export const overlayPrefix = 'trusted.overlay.';
/** overlayfs shows `trusted.overlay.overlay.X` as `trusted.overlay.X`. */
export const escapedPrefix = 'trusted.overlay.overlay.';

/** On a file: its data is elsewhere; holds the fs-verity digest that it must have. */
export const metacopyName = 'trusted.overlay.metacopy';
/** On a file: the path of its data in the data-only layers. */
export const redirectName = 'trusted.overlay.redirect';
/** On a directory: layers below do not show through. */
export const opaqueName = 'trusted.overlay.opaque';

/** A whiteout that the tree itself holds, as a regular file with these attributes. */
export const escapedWhiteoutName = 'trusted.overlay.overlay.whiteout';
export const userWhiteoutName = 'user.overlay.whiteout';
/** Marks of a directory that holds such whiteouts: for format version 0, and those that version 1 adds. */
export const escapedWhiteoutsName = 'trusted.overlay.overlay.whiteouts';
export const userWhiteoutsName = 'user.overlay.whiteouts';
export const escapedOpaqueName = 'trusted.overlay.overlay.opaque';
export const userOpaqueName = 'user.overlay.opaque';

/** FS_VERITY_HASH_ALG_SHA256 of fs-verity's user interface. */
export const verityAlgorithmSha256 = 1;
/** Header of a metacopy attribute: version, length, flags, digest algorithm. */
export const metacopyHeaderBytes = 4;

/** The 256 names of the object store's folders; the image hides them with whiteouts in its root. */
export const storeFolderNames: readonly string[] = Array.from({ length: 256 }, (_, index) =>
  index.toString(16).padStart(2, '0'),
);
