import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { VerityTable } from '../mount/verity-table.ts';
import { check, isSyscallError } from './errno.ts';
import type { OwnedFd } from './fd.ts';
import * as ffi from './ffi.ts';
import { fstat, openFile } from './file.ts';

// The device mapper (dm-ioctl.h of the kernel's own headers): every request is a struct dm_ioctl, what belongs to it behind it.
const DM_LIST_DEVICES = 2;
const DM_DEV_CREATE = 3;
const DM_DEV_REMOVE = 4;
const DM_DEV_SUSPEND = 6;
const DM_TABLE_LOAD = 9;
const DM_GET_TARGET_VERSION = 17;
const DM_READONLY_FLAG = 1;
const DM_BUFFER_FULL_FLAG = 1 << 8;
const DM_DEFERRED_REMOVE = 1 << 17;

const controlPath = '/dev/mapper/control';
/** struct dm_ioctl with its version 4.0.0, and where its fields are. */
const header = { bytes: 312, version: 4, dataSize: 12, dataStart: 16, targets: 20, flags: 28, device: 40 };
const nameField = { offset: 48, bytes: 128 };
const uuidField = { offset: 176, bytes: 129 };
/** struct dm_target_spec: sector_start, length, status, next, target_type. */
const target = { bytes: 40, length: 8, next: 20, type: 24 };
const sectorBytes = 512;
const listBytesMax = 1 << 20;

/**
 * A device, read-only, that shows what the block device `data` holds and fails with EIO where `hashes` do not vouch for
 * it. It is gone with its last user: this descriptor, which is to be closed once the mount exists, or the mount; if this process
 * is killed on the way, with removeLeftDevices(). Throws SyscallError: ENOENT or ENODEV where there is no device mapper,
 * EINVAL where it has no dm-verity or does not take the table.
 */
export function openVerityDevice(data: number, hashes: number, table: VerityTable): OwnedFd {
  using control = openFile(controlPath, { access: 'read-write' });
  const name = newName();
  const device = request(control.number, DM_DEV_CREATE, { name, flags: DM_READONLY_FLAG }).readBigUInt64LE(
    header.device,
  );
  try {
    const content = targetOf('verity', verityParameters(data, hashes, table), sectorsOf(table));
    request(control.number, DM_TABLE_LOAD, { name, flags: DM_READONLY_FLAG, targets: 1, content });
    // Resumes it: the flag that would suspend it is not set.
    request(control.number, DM_DEV_SUSPEND, { name, flags: DM_READONLY_FLAG });
    using opened = openFile(`/dev/dm-${minorOf(device)}`);
    if (fstat(opened.number).rdev !== device)
      throw new Error(`/dev/dm-${minorOf(device)} is not the device that was made`);
    return opened.moved();
  } finally {
    // Whoever has it open keeps it: from here on it goes with its last user, or is gone at once where the above failed.
    request(control.number, DM_DEV_REMOVE, { name, flags: DM_DEFERRED_REMOVE });
  }
}

/** Whether this kernel's device mapper has dm-verity, loading it where it is a module. */
export function hasVerityTarget(): boolean {
  try {
    using control = openFile(controlPath, { access: 'read-write' });
    request(control.number, DM_GET_TARGET_VERSION, { name: 'verity' });
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}

/**
 * Removes devices that processes of ours made and were killed before they let go of them. Those of processes that live are
 * theirs, and what is in use stays until it is not. Answers with how many there were. Throws SyscallError.
 */
export function removeLeftDevices(): number {
  using control = openFile(controlPath, { access: 'read-write' });
  const left = listNames(control.number).filter((name) => isOurs(name) && !isMakerAlive(name));
  for (const name of left) {
    try {
      request(control.number, DM_DEV_REMOVE, { name, flags: DM_DEFERRED_REMOVE });
    } catch (error) {
      // It went by itself meanwhile.
      if (!isSyscallError(error, 'ENXIO')) throw error;
    }
  }
  return left.length;
}

const prefix = 'cfs-mountd';

/** A name that says whose it is and that nobody has: the process by its ID and its start, and 64 random bits. */
function newName(): string {
  return [prefix, process.pid, startOf(process.pid), randomBytes(8).toString('hex')].join('-');
}

function isOurs(name: string): boolean {
  return /^cfs-mountd-[1-9][0-9]*-[0-9]+-[0-9a-f]{16}$/.test(name);
}

function isMakerAlive(name: string): boolean {
  const [pid = '', start] = name.slice(prefix.length + 1).split('-');
  return startOf(Number(pid)) === start;
}

/** When a process was started, in ticks since the machine was (proc_pid_stat(5), field 22); undefined where there is none. */
function startOf(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses, and may hold both spaces and parentheses.
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return undefined;
    throw error;
  }
}

function listNames(control: number): readonly string[] {
  for (let room = 16_384; ; room *= 4) {
    const answer = request(control, DM_LIST_DEVICES, { content: new Uint8Array(room) });
    if ((answer.readUInt32LE(header.flags) & DM_BUFFER_FULL_FLAG) === 0) return parseNames(answer);
    if (room >= listBytesMax) throw new RangeError('there are too many devices of the device mapper to list');
  }
}

/** struct dm_name_list: the device, the offset of the next from this one (0: the last), the name. */
function parseNames(answer: Buffer): readonly string[] {
  const names: string[] = [];
  let at = answer.readUInt32LE(header.dataStart);
  // A list without devices has an entry for none.
  while (answer.readBigUInt64LE(at) !== 0n) {
    const end = answer.indexOf(0, at + 12);
    names.push(answer.toString('latin1', at + 12, end));
    const next = answer.readUInt32LE(at + 8);
    if (next === 0) break;
    at += next;
  }
  return names;
}

/** verity.rst, "Construction Parameters". */
function verityParameters(data: number, hashes: number, table: VerityTable): string {
  const { dataBlockBytes, hashBlockBytes, dataBlocks, hashStartBlock, rootHash, salt } = table;
  const devices = [data, hashes].map((fd) => numbersOf(fstat(fd).rdev));
  const sizes = [dataBlockBytes, hashBlockBytes, dataBlocks, hashStartBlock];
  return [1, ...devices, ...sizes, 'sha256', rootHash, salt === '' ? '-' : salt].join(' ');
}

function sectorsOf({ dataBlocks, dataBlockBytes }: VerityTable): number {
  return (dataBlocks * dataBlockBytes) / sectorBytes;
}

/** One target that takes the whole of a device of `sectors` sectors. */
function targetOf(type: string, parameters: string, sectors: number): Uint8Array {
  const bytes = Math.ceil((target.bytes + parameters.length + 1) / 8) * 8;
  const spec = Buffer.alloc(bytes);
  spec.writeBigUInt64LE(BigInt(sectors), target.length);
  spec.writeUInt32LE(bytes, target.next);
  spec.write(type, target.type, 'latin1');
  spec.write(parameters, target.bytes, 'latin1');
  return spec;
}

interface Request {
  /** The device, or of DM_GET_TARGET_VERSION the target. */
  readonly name?: string;
  readonly flags?: number;
  readonly targets?: number;
  readonly content?: Uint8Array;
}

/** Asks the device mapper, and answers with what it has written. Throws SyscallError. */
function request(
  control: number,
  command: number,
  { name = '', flags = 0, targets = 0, content }: Request,
): Buffer {
  const memory = ffi.allocate(header.bytes + Math.max(content?.length ?? 0, 64));
  memory.writeUInt32LE(header.version, 0);
  memory.writeUInt32LE(memory.length, header.dataSize);
  memory.writeUInt32LE(header.bytes, header.dataStart);
  memory.writeUInt32LE(targets, header.targets);
  memory.writeUInt32LE(flags, header.flags);
  memory.write(name, nameField.offset, nameField.bytes - 1, 'latin1');
  // Tells the devices apart for other tools, which take it for what made them.
  if (command === DM_DEV_CREATE)
    memory.write(`CFSMOUNTD-VERITY-${name}`, uuidField.offset, uuidField.bytes - 1, 'latin1');
  if (content !== undefined) memory.set(content, header.bytes);
  check('ioctl', ffi.ioctl(control, requestNumber(command), memory), `${commandNames[command]} of ${name}`);
  return memory;
}

/** _IOWR(0xfd, command, struct dm_ioctl). */
function requestNumber(command: number): number {
  return 0xc000_0000 + header.bytes * 0x1_0000 + 0xfd00 + command;
}

const commandNames: Readonly<Record<number, string>> = {
  [DM_LIST_DEVICES]: 'DM_LIST_DEVICES',
  [DM_DEV_CREATE]: 'DM_DEV_CREATE',
  [DM_DEV_REMOVE]: 'DM_DEV_REMOVE',
  [DM_DEV_SUSPEND]: 'DM_DEV_SUSPEND',
  [DM_TABLE_LOAD]: 'DM_TABLE_LOAD',
  [DM_GET_TARGET_VERSION]: 'DM_GET_TARGET_VERSION',
};

/** MAJOR:MINOR of a device number as stat(2) has it, which is also how the device mapper writes them (new_encode_dev). */
function numbersOf(device: bigint): string {
  return `${(device >> 8n) & 0xfffn}:${minorOf(device)}`;
}

function minorOf(device: bigint): bigint {
  return (device & 0xffn) | ((device >> 12n) & 0xfff00n);
}
