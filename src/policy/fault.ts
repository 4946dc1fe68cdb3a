/** What is wrong with a policy, and where. */
export interface PolicyFault {
  /** Path of the policy or key file, or of the directory that is at fault. */
  readonly file: string;
  /** Counted from 1; 0 where the file as a whole is meant. */
  readonly line: number;
  /** The field, such as `rules[2].threshold` (counted from 0, in that file); undefined where none is meant. */
  readonly key: string | undefined;
  readonly reason: string;
}

/** The policy cannot be used. Holds every fault found, by file and line; the message tells the first. */
export class PolicyInvalid extends Error {
  override readonly name = 'PolicyInvalid';
  readonly faults: readonly [PolicyFault, ...PolicyFault[]];

  constructor(faults: readonly [PolicyFault, ...PolicyFault[]]) {
    const others = faults.length - 1;
    super(`${formatFault(faults[0])}${others === 0 ? '' : ` (and ${others} more)`}`);
    this.faults = faults;
  }
}

/** One line: `50-site.toml:12: rules[2].threshold: 3 is above the number of distinct keys (2)`. */
export function formatFault(fault: PolicyFault): string {
  // What is wrong with the file as such, and not with what is in it, begins with its path already.
  if (fault.line === 0 && fault.key === undefined && fault.reason.startsWith(`${fault.file} `))
    return fault.reason;
  const line = fault.line === 0 ? '' : `:${fault.line}`;
  const key = fault.key === undefined ? '' : `${fault.key}: `;
  return `${fault.file}${line}: ${key}${fault.reason}`;
}

/** A value does not fit its field; the message says why. Whoever knows the field makes a PolicyFault of it. */
export class FieldInvalid extends Error {
  override readonly name = 'FieldInvalid';
}

/** By file, then line, as an editor would walk through them. */
export function sortFaults(faults: readonly PolicyFault[]): PolicyFault[] {
  return [...faults].sort((a, b) => compareText(a.file, b.file) || a.line - b.line);
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
