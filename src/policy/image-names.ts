import { isPathOfSegments } from '../trust/statement.ts';

/** Suffixes of image files in a policy's image directories, in the order in which they are tried. */
export const imageSuffixes: readonly string[] = ['.cfs', '.erofs', '.squashfs', '.raw'];

/** The suffix of an image that `path` ends in, or undefined. */
export function suffixOf(path: string): string | undefined {
  return imageSuffixes.find((suffix) => path.endsWith(suffix));
}

/** Under which name the service finds the file that is called so in an image directory; undefined where under none. */
export function nameOfImage(file: string): string | undefined {
  const suffix = suffixOf(file);
  if (suffix === undefined) return undefined;
  const name = file.slice(0, -suffix.length);
  return isPathOfSegments(name, 'file') ? name : undefined;
}
