import { readFileSync } from 'node:fs';

/** How much of the last ten seconds somebody may have waited for memory, in percent, before what is kept is given up. */
const stalledPercentMax = 10;

/**
 * Whether processes wait for memory, by the kernel's pressure stall information
 * (Documentation/accounting/psi.rst). False on a kernel without it.
 */
export function memoryIsShort(path = '/proc/pressure/memory'): boolean {
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
  } catch {
    // ENOENT without CONFIG_PSI, EOPNOTSUPP where it is switched off.
    return false;
  }
  const stalled = /^some avg10=([0-9.]+) /m.exec(text)?.[1];
  return stalled !== undefined && Number(stalled) > stalledPercentMax;
}
