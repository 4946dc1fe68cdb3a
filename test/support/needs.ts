import { writeSync } from 'node:fs';

/** The kinds of tests, as vitest's projects and `CFS_TEST_REQUIRE` name them. */
export type Kind = 'unit' | 'fuzz' | 'kernel' | 'interop' | 'vm';

const required = (process.env['CFS_TEST_REQUIRE'] ?? '').split(',').filter((kind) => kind !== '');

/**
 * Whether tests that need what is not `available` are to be skipped: then the reason is said aloud. Where
 * `CFS_TEST_REQUIRE` (kinds, comma-separated) names `kind`, nothing is skipped and the missing need throws.
 */
export function needs(kind: Kind, available: boolean, reason: string): boolean {
  if (available) return false;
  if (required.includes(kind)) throw new Error(`${kind} tests are required here, but: ${reason}`);
  writeSync(2, `SKIPPED (${kind}): ${reason}\n`);
  return true;
}

/**
 * Whether tests are to be skipped for want of what no set-up can bring, such as data that lies beside a checkout on some
 * machines only: the reason is said aloud, and it is no failure anywhere.
 */
export function absent(available: boolean, reason: string): boolean {
  if (!available) writeSync(2, `SKIPPED: ${reason}\n`);
  return !available;
}

/** Whether this process is root in the initial user namespace's sense: uid 0 with every ID mapped. */
export const isRoot: boolean = process.getuid?.() === 0;
