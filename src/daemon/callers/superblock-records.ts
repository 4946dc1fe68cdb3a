import type { OwnedFd } from '../../sys/fd.ts';
import { fstat, pread, writeAll } from '../../sys/file.ts';
import { groupOf, type Owner } from './owner.ts';

/** What a superblock that lives takes of its user's shares, besides one superblock. */
export interface Charge {
  readonly owner: Owner;
  /** Loop devices of its own. */
  readonly loops: number;
  /** Bytes of the copied image that lives as long as it does; 0 where there is none. */
  readonly copiedBytes: number;
}

/** A charge, and the inotify watch that ends with the superblock. */
export interface ChargeRecord extends Charge {
  readonly watch: number;
}

const slotBytes = 128;

/**
 * What the superblocks that were handed out take, in a file in memory that the next process of the service gets as well: a slot
 * for each, a line of text padded with NULs. Slots are written in one piece, within a page, and used again: there are no
 * more of them than superblocks at a time. Slots of superblocks that are gone stay as they are until then.
 */
export class SuperblockRecords {
  readonly #file: OwnedFd;
  readonly #free: number[] = [];
  #slots: number;

  /** Takes over `file`, a memfd. */
  constructor(file: OwnedFd) {
    this.#file = file;
    this.#slots = Math.floor(Number(fstat(file.number).size) / slotBytes);
  }

  /** What is recorded, by slot, gone or not. What is not whole was never handed out; its slot is free. */
  read(): ReadonlyMap<number, ChargeRecord> {
    const bytes = Buffer.alloc(this.#slots * slotBytes);
    pread(this.#file.number, bytes, 0);
    const found = new Map<number, ChargeRecord>();
    for (let slot = 0; slot < this.#slots; slot += 1) {
      const record = parseRecord(bytes.toString('latin1', slot * slotBytes, (slot + 1) * slotBytes));
      if (record === undefined) this.#free.push(slot);
      else found.set(slot, record);
    }
    return found;
  }

  /** Records one; answers its slot. Throws SyscallError: then it must not be handed out. */
  write(record: ChargeRecord): number {
    const slot = this.#free.at(-1) ?? this.#slots;
    writeAll(this.#file.number, formatRecord(record), slot * slotBytes);
    if (slot === this.#slots) this.#slots += 1;
    else this.#free.pop();
    return slot;
  }

  /** The superblock of that slot is gone. */
  release(slot: number): void {
    this.#free.push(slot);
  }

  /** Closes the file here. */
  close(): void {
    this.#file.close();
  }
}

/** Exported for the tests. */
export function formatRecord({ watch, owner, loops, copiedBytes }: ChargeRecord): Uint8Array {
  const root = owner.root === true ? 'root' : '-';
  const text = `${watch} ${loops} ${copiedBytes} ${owner.user} ${root} ${groupOf(owner)}\n`;
  if (text.length > slotBytes) throw new RangeError(`a record of ${text.length} bytes: ${text}`);
  return Buffer.alloc(slotBytes).fill(text, 0, text.length, 'latin1');
}

/** Undefined for what is not whole. Exported for the tests. */
export function parseRecord(slot: string): ChargeRecord | undefined {
  const [, watch, loops, copiedBytes, user, root, group] =
    /^(\d{1,10}) (\d{1,10}) (\d{1,16}) (-?\d{1,10}) (root|-) ([^\n\0]+)\n\0*$/.exec(slot) ?? [];
  if (group === undefined) return undefined;
  const owner = { user: Number(user), root: root === 'root', group };
  return { watch: Number(watch), owner, loops: Number(loops), copiedBytes: Number(copiedBytes) };
}
