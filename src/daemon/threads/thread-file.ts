/**
 * Where the bundle of the thread's program `name` (such as `threads/mounting-thread`) is: in the folder `daemon` beside that of the
 * programs; when the sources run as they are, as in the tests, it is what the build left in dist.
 */
export function threadFile(name: string): URL {
  const here = import.meta.url;
  return new URL(here.endsWith('.ts') ? `../../../dist/daemon/${name}.cjs` : `../daemon/${name}.cjs`, here);
}
