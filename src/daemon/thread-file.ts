/**
 * Where the compiled form of the thread's program `name` (such as `mounting-thread`) is. Beside this module once it is
 * compiled; when the sources run as they are, as in the tests, it is what the build left in dist.
 */
export function threadFile(name: string): URL {
  const here = import.meta.url;
  return here.endsWith('.ts') ? new URL(`../../dist/daemon/${name}.js`, here) : new URL(`./${name}.js`, here);
}
