import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const folder = resolve(import.meta.dirname, '../../.cache/sid');

/**
 * The argument vector that runs a program of Debian sid's (`/usr/bin/NAME` in the folder that test/interop/setup.sh
 * makes) with that release's own loader and libraries, on this machine's files; undefined where it is not there.
 */
export function sid(program: string, ...parameters: readonly string[]): [string, ...string[]] | undefined {
  const path = `${folder}/usr/bin/${program}`;
  if (!existsSync(`${folder}/ready`) || !existsSync(path)) return undefined;
  const libraries = `${folder}/usr/lib/x86_64-linux-gnu`;
  return [
    `${folder}/usr/lib64/ld-linux-x86-64.so.2`,
    '--library-path',
    `${libraries}:${libraries}/systemd`,
    path,
    ...parameters,
  ];
}

/** The path of Debian sid's file `/PATH` in the same folder, which need not be there. */
export function inSid(path: string): string {
  return join(folder, path);
}

/** Why `sid` finds nothing. */
export const sidMissing = 'Debian sid’s programs are not there: run test/interop/setup.sh as root';
