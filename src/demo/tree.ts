import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const programs = ['sh', 'cat', 'ls', 'id', 'uname', 'grep', 'mount', 'mknod'];

/** The shared libraries, and the loader, that a program of this machine needs, as ldd(1) lists them. */
function librariesOf(program: string): string[] {
  const { stdout } = spawnSync('ldd', [program], { encoding: 'utf8' });
  return [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
}

/** Where this machine keeps a program, or undefined. */
function find(program: string): string | undefined {
  return ['/usr/bin', '/bin', '/usr/sbin', '/sbin']
    .map((folder) => join(folder, program))
    .find((path) => existsSync(path));
}

function copyTo(root: string, path: string): void {
  const target = join(root, path);
  mkdirSync(dirname(target), { recursive: true });
  if (!existsSync(target)) copyFileSync(realpathSync(path), target);
}

/**
 * Copies programs of this machine, with the libraries that they need, below `root`: a tree that a container can run.
 * Returns the names of the programs.
 */
export function copyPrograms(root: string): string[] {
  const copied: string[] = [];
  for (const folder of ['bin', 'proc', 'tmp', 'etc']) mkdirSync(join(root, folder), { recursive: true });
  for (const program of programs) {
    const path = find(program);
    if (path === undefined) continue;
    copyFileSync(realpathSync(path), join(root, 'bin', program));
    chmodSync(join(root, 'bin', program), 0o755);
    for (const library of librariesOf(path)) copyTo(root, library);
    copied.push(program);
  }
  writeFileSync(join(root, 'etc/hello'), 'Hello from a signed image.\n');
  symlinkSync('hello', join(root, 'etc/greeting'));
  return copied;
}
