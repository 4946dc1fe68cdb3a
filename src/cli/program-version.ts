import { readFileSync } from 'node:fs';

/** The version of this package, from its package.json, which lies two folders above the programs. */
export function programVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const description: unknown = JSON.parse(text);
  if (
    typeof description !== 'object' ||
    description === null ||
    !('version' in description) ||
    typeof description.version !== 'string'
  ) {
    throw new Error('package.json has no version');
  }
  return description.version;
}
