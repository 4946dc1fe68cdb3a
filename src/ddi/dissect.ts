import { compareVersions } from './compare-versions.ts';
import { DiskImageError } from './errors.ts';
import type { PartitionTable } from './gpt.ts';
import type { Partition } from './gpt-entry.ts';
import type { Architecture, Designator } from './partition-kinds.ts';
import { kindName, kindsByArchitecture, partitionKind } from './partition-kinds.ts';

/** A partition and what it is for. */
export interface DissectedPartition extends Partition {
  readonly designator: Designator;
  readonly architecture: Architecture | undefined;
  /** Whether its attributes say that it is to be mounted read-only, and that its filesystem is to grow. */
  readonly readOnly: boolean;
  readonly growFileSystem: boolean;
}

/** The partitions that count, at most one of a kind. Those of one of `root` and `usr` are of one architecture. */
export type DissectedImage = ReadonlyMap<Designator, DissectedPartition>;

/** Attributes by UAPI.2; without noAuto in a kind that knows it a partition takes part. */
const growFileSystem = 1n << 59n;
const readOnly = 1n << 60n;
const noAuto = 1n << 63n;

/** Of these the newest label counts; of others the first. */
const versioned: ReadonlySet<Designator> = new Set(kindsByArchitecture);

/** Architectures whose programs run as well, each after its own. */
const secondary: Partial<Readonly<Record<Architecture, Architecture>>> = { 'x86-64': 'x86', arm64: 'arm' };

/**
 * Chooses partitions for `native` by UAPI.2, as systemd-dissect does: types alone say what a partition is for, of root and usr
 * those of this machine's architecture count, and of several the one with the newest label. Throws DiskImageError where there
 * is neither root nor usr for it, and where two are equally new: then nothing says which was meant.
 */
export function dissect(table: PartitionTable, native: Architecture): DissectedImage {
  const found = new Map<Designator, DissectedPartition>();
  const known = table.partitions.flatMap(named).filter(({ attributes }) => (attributes & noAuto) === 0n);
  for (const part of ['root', 'usr'] as const) {
    const architecture = [native, secondary[native]].find(
      (wanted) =>
        wanted !== undefined &&
        known.some(({ designator, architecture }) => designator === part && architecture === wanted),
    );
    if (architecture === undefined) continue;
    for (const designator of [part, `${part}-verity`, `${part}-verity-sig`] as const) {
      const newest = newestOf(
        known.filter((other) => other.designator === designator && other.architecture === architecture),
      );
      if (newest !== undefined) found.set(designator, newest);
    }
  }
  if (found.size === 0) {
    const kinds = [...new Set(known.map(kindName))].join(', ');
    const others = kinds === '' ? 'no partition of a known kind' : `what it has is ${kinds}`;
    throw new DiskImageError(
      table.entriesOffset,
      `there is no root and no usr partition for ${native} that is to be mounted; ${others}`,
    );
  }
  for (const partition of known) {
    const { designator } = partition;
    if (!versioned.has(designator) && !found.has(designator)) found.set(designator, partition);
  }
  return found;
}

function named(partition: Partition): readonly DissectedPartition[] {
  const kind = partitionKind(partition.type);
  if (kind === undefined) return [];
  const { attributes } = partition;
  return [
    {
      ...partition,
      ...kind,
      readOnly: (attributes & readOnly) !== 0n,
      growFileSystem: (attributes & growFileSystem) !== 0n,
    },
  ];
}

/** The partition with the newest label, of partitions of one kind. */
function newestOf(partitions: readonly DissectedPartition[]): DissectedPartition | undefined {
  const [newest, second] = [...partitions].sort((a, b) => compareVersions(b.label, a.label));
  if (newest === undefined || second === undefined || compareVersions(newest.label, second.label) !== 0)
    return newest;
  const [first, other] = [newest, second].sort((a, b) => a.number - b.number);
  throw new DiskImageError(
    second.offset,
    `the partitions ${first?.number} and ${other?.number} are both ${kindName(newest)}, and by their labels neither is the newer`,
  );
}
