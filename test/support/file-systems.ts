import { spawnSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { hasFileSystem } from '../../src/sys/mount-calls.ts';
import type { FileSystem } from '../../src/trust/file-system.ts';
import { absent, isRoot } from './needs.ts';

/** Filesystems that images of tests are made with, by the programs that everybody uses. */
export const builtFileSystems = ['erofs', 'squashfs', 'ext4', 'xfs', 'btrfs'] as const;

export type BuiltFileSystem = (typeof builtFileSystems)[number] & FileSystem;

/** Those of `wanted` that this kernel has, for root; what it lacks is said aloud, and is no failure: no set-up can bring it. */
export function presentFileSystems<Name extends BuiltFileSystem>(wanted: readonly Name[]): readonly Name[] {
  if (!isRoot) return [];
  return wanted.filter(
    (fileSystem) => !absent(hasFileSystem(fileSystem), `this kernel has no ${fileSystem}`),
  );
}

const mib = 1024 * 1024;

/** Runs a program to its end. Throws with what it wrote where it fails. */
export function runProgram(file: string, ...parameters: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(file, parameters, { encoding: 'utf8' });
  if (status === 0) return stdout;
  throw new Error(`${file} ${parameters.join(' ')}: ${error?.message ?? stderr}${stdout}`);
}

function emptyFile(image: string, bytes: number): void {
  writeFileSync(image, '');
  truncateSync(image, bytes);
}

/** How an image of a tree is made of each; xfs is filled by the protocol file that lists the tree (mkfs.xfs -p). */
const builders: Readonly<Record<BuiltFileSystem, (tree: string, image: string) => void>> = {
  erofs: (tree, image) => void runProgram('mkfs.erofs', '-zlz4', image, tree),
  squashfs: (tree, image) =>
    void runProgram('mksquashfs', tree, image, '-noappend', '-quiet', '-no-progress', '-comp', 'gzip'),
  ext4: (tree, image) => {
    emptyFile(image, 2 * mib);
    runProgram('mkfs.ext4', '-q', '-d', tree, image);
  },
  xfs: (tree, image) => {
    const prototype = runProgram('sh', '-c', xfsPrototype, 'sh', tree);
    writeFileSync(`${image}.proto`, prototype);
    emptyFile(image, 16 * mib);
    // Below 300 MiB it wants to be told so; the kernel mounts it all the same.
    runProgram('mkfs.xfs', '--unsupported', '-q', '-p', `${image}.proto`, image);
  },
  btrfs: (tree, image) => {
    emptyFile(image, 16 * mib);
    runProgram('mkfs.btrfs', '-q', '--mixed', '--rootdir', tree, image);
  },
};

/** mkfs.xfs(8), PROTOFILE: of folders, files and symbolic links without blanks in their names. */
const xfsPrototype = `
walk() {
  for path in "$1"/*; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    name=\${path##*/}
    set_bits() { [ -u "$path" ] && printf u || printf -- -; [ -g "$path" ] && printf g || printf -- -; }
    mode=$(stat -c %04a "$path" | tail -c 4)
    owner=$(stat -c '%u %g' "$path")
    if [ -L "$path" ]; then echo "$name l--$mode $owner $(readlink "$path")"
    elif [ -d "$path" ]; then echo "$name d$(set_bits)$mode $owner"; (walk "$path"); echo '$'
    elif [ -c "$path" ]; then echo "$name c--$mode $owner $((0x$(stat -c %t "$path"))) $((0x$(stat -c %T "$path")))"
    else echo "$name -$(set_bits)$mode $owner $path"; fi
  done
}
echo /dev/null
echo '0 0'
echo "d--$(stat -c '%a %u %g' "$1")"
walk "$1"
echo '$'
`;

/** Writes to `image` a filesystem that holds what is below `tree`. */
export function buildFileSystem(fileSystem: BuiltFileSystem, tree: string, image: string): void {
  builders[fileSystem](tree, image);
}
