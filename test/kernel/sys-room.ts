import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { onTestFinished } from 'vitest';

/** A folder of a test's own, removed after it. */
export function scratchDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'cfs-sys-'));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** The mounts that this thread sees. */
export function mountTable(): string {
  return readFileSync('/proc/thread-self/mountinfo', 'utf8');
}

/** Whether `program` can be started. */
export function hasProgram(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** A small EROFS image made by mkfs.erofs, holding the file `hello`. */
export function erofsImage(directory: string): Uint8Array {
  const tree = join(directory, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'hello'), 'hello\n');
  const image = join(directory, 'image.erofs');
  execFileSync('mkfs.erofs', [image, tree], { stdio: 'ignore' });
  return readFileSync(image);
}
