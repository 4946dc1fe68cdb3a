import type { Architecture } from './partition-kinds.ts';

/** process.arch of Node, where the Discoverable Partitions Specification has another name for it. */
const names: Readonly<Record<string, Architecture>> = {
  x64: 'x86-64',
  ia32: 'x86',
  arm: 'arm',
  arm64: 'arm64',
  loong64: 'loongarch64',
  mipsel: 'mips-le',
  mips64el: 'mips64-le',
  // Node runs on the little-endian kind of Linux alone.
  ppc64: 'ppc64-le',
  riscv64: 'riscv64',
  s390x: 's390x',
};

/** The specification's name of the architecture that Node calls `name` (process.arch). Throws RangeError for one it does not have. */
export function nativeArchitecture(name: string): Architecture {
  const known = names[name];
  if (known === undefined) throw new RangeError(`no disk images are known for the architecture ${name}`);
  return known;
}
