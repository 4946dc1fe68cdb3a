import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Superblock } from '../sys/superblock.ts';
import { groupOf, type Owner } from './owner.ts';

/** A superblock that was handed out, and what it counts for. */
export interface SuperblockRecord extends Superblock {
  readonly owner: Owner;
  /** Bytes of the copied image that lives as long as it does; 0 where there is none. */
  readonly copiedBytes: number;
}

const bootIdFile = '/proc/sys/kernel/random/boot_id';

/**
 * The superblocks that were handed out and may be alive, in the state folder: a file for each, named by its device number,
 * in a folder named by the machine's boot, which no superblock outlives. The next process reads there what its users
 * hold. Files need not reach the disk: what is lost with the machine's memory says nothing any more.
 */
export class SuperblockRecords {
  readonly #directory: string;

  /** Below the state folder. Forgets what was before the machine's last start. Throws the system call's error. */
  constructor(stateDirectory: string) {
    const all = join(stateDirectory, 'superblocks');
    const boot = readFileSync(bootIdFile, 'latin1').trim();
    this.#directory = join(all, boot);
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(all)) {
      if (name !== boot) rmSync(join(all, name), { recursive: true, force: true });
    }
  }

  /** Records one, in place of what had its number before. Throws the system call's error: then it must not be handed out. */
  write(record: SuperblockRecord): void {
    writeFileSync(this.#path(record.device), formatRecord(record), { mode: 0o600 });
  }

  /** It is gone. */
  remove(device: number): void {
    rmSync(this.#path(device), { force: true });
  }

  /** What is recorded. What is not whole was never handed out, and is dropped. */
  read(): SuperblockRecord[] {
    const found: SuperblockRecord[] = [];
    for (const name of readdirSync(this.#directory)) {
      const device = Number(name);
      const record = parseRecord(device, readFileSync(join(this.#directory, name), 'utf8'));
      if (record === undefined) rmSync(join(this.#directory, name), { recursive: true });
      else found.push(record);
    }
    return found;
  }

  #path(device: number): string {
    return join(this.#directory, String(device));
  }
}

/** Written in one piece, the line's end last. */
function formatRecord({ freeInodes, owner, copiedBytes }: SuperblockRecord): string {
  return `${freeInodes} ${copiedBytes} ${owner.user} ${owner.root === true ? 'root' : '-'} ${groupOf(owner)}\n`;
}

/** Undefined for what is not whole. */
function parseRecord(device: number, text: string): SuperblockRecord | undefined {
  const [, freeInodes, copiedBytes, user, root, group] =
    /^(\d+) (\d+) (-?\d+) (root|-) (.+)\n$/.exec(text) ?? [];
  if (!Number.isSafeInteger(device) || freeInodes === undefined || group === undefined) return undefined;
  const owner = { user: Number(user), root: root === 'root', group };
  return { device, freeInodes: BigInt(freeInodes), owner, copiedBytes: Number(copiedBytes) };
}
