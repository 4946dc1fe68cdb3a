/**
 * One limit: its value (the unit is the last part of its name; a plain count where there is none) and the
 * reason for it.
 */
export interface Limit {
  readonly value: number;
  readonly why: string;
}

const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;

/** The name of a limit, as Describe and LimitExceeded tell it. */
export type LimitName =
  | 'messageBytes'
  | 'messageDescriptors'
  | 'connections'
  | 'connectionsPerUser'
  | 'callsInFlight'
  | 'callsInFlightPerUser'
  | 'descriptorsInFlight'
  | 'descriptorsInFlightPerUser'
  | 'bufferedBytes'
  | 'bufferedBytesPerUser'
  | 'messageMilliseconds'
  | 'replyMilliseconds'
  | 'stopMilliseconds'
  | 'lastReplyMilliseconds'
  | 'signatures'
  | 'signatureFileBytes'
  | 'stores'
  | 'nameBytes'
  | 'imageBytes'
  | 'imageBytesInPlace'
  | 'copiedBytesPerUser'
  | 'copiedBytes'
  | 'unverifiedBytesPerUser'
  | 'unverifiedBytes'
  | 'recordedBytesPerUser'
  | 'recordedBytes'
  | 'superblocksPerUser'
  | 'superblocks'
  | 'loopDevicesPerUser'
  | 'loopDevices'
  | 'threads'
  | 'threadsPerUser'
  | 'lostThreads'
  | 'waitingTasksPerUser'
  | 'stallMilliseconds'
  | 'closers'
  | 'installedImagesOpen'
  | 'contentsKept'
  | 'contentsBytesKept'
  | 'evidenceKept'
  | 'objectsListed'
  | 'addingCallsPerUser'
  | 'addingCalls'
  | 'addedBytesPerUser'
  | 'addedBytes'
  | 'addedMilliseconds'
  | 'missingListed'
  | 'missingSearched'
  | 'mountsKept'
  | 'mountsKeptPerUser'
  | 'keptMilliseconds'
  | 'logBytes'
  | 'mountsPerSecondPerUser'
  | 'versionsPerRule';

/**
 * Every size, count and time that a peer can choose, each with its reason. Describe tells the values, and
 * LimitExceeded names the limit that was met. "User" is the user who counts as the caller (peer.ts), so that the
 * containers of one user share that user's part.
 */
export const limitTable: Readonly<Record<LimitName, Limit>> = {
  messageBytes: {
    value: mib,
    why: 'A call with as many signatures as are taken fits many times over; a connection buffers no more than this.',
  },
  messageDescriptors: { value: 253, why: 'SCM_MAX_FD: the kernel passes no more with one sendmsg(2).' },
  connections: {
    value: 4096,
    why: 'Idle connections cost a descriptor or three each; the daemon keeps most of its descriptors for mounts.',
  },
  connectionsPerUser: {
    value: 256,
    why: 'A sixteenth of all: one user cannot keep the others from connecting.',
  },
  callsInFlight: {
    value: 64,
    why: 'Bounds the memory and the descriptors that requests under way hold together.',
  },
  callsInFlightPerUser: {
    value: 16,
    why: 'Further calls of that user wait for their turn, so that one user takes a quarter of the turns at most.',
  },
  descriptorsInFlight: {
    value: 8192,
    why: 'Descriptors that arrived and belong to calls not yet answered; far below RLIMIT_NOFILE.',
  },
  descriptorsInFlightPerUser: {
    value: 1024,
    why: 'Four messages full of descriptors; no honest call needs more than twenty.',
  },
  bufferedBytes: {
    value: 128 * mib,
    why: 'Messages of all users that are not complete or not answered; they are held in memory.',
  },
  bufferedBytesPerUser: {
    value: 16 * mib,
    why: 'Sixteen messages of the greatest length at a time, or some thousands of usual ones.',
  },
  messageMilliseconds: {
    value: 30_000,
    why: 'A message that has begun must be whole by then: half messages hold memory and descriptors.',
  },
  replyMilliseconds: {
    value: 30_000,
    why: 'A peer that does not read its reply by then loses the connection, and with it the mount in the reply.',
  },
  stopMilliseconds: {
    value: 30_000,
    why: 'After SIGTERM, calls under way get this long; below the TimeoutStopSec of the unit, so that systemd kills nothing.',
  },
  lastReplyMilliseconds: {
    value: 5000,
    why: 'After SIGTERM, a peer gets this long to read its last reply: whoever reads none is not to hold up the end.',
  },
  signatures: {
    value: 16,
    why: 'Each costs a verification of up to 4 ms; thresholds beyond this are unheard of.',
  },
  signatureFileBytes: { value: 64 * kib, why: 'An envelope with sixteen signatures is below 8 KiB.' },
  stores: { value: 16, why: 'Stores that a call names or brings; each is a layer of the overlay.' },
  nameBytes: { value: 255, why: 'The contract of the interface: names and paths of images.' },
  imageBytes: {
    value: gib,
    why: 'A memfd, which is copied, and what our own reader reads as a whole: a gibibyte describes some million files.',
  },
  imageBytesInPlace: {
    value: 64 * gib,
    why: 'An image with fs-verity, or an installed one, is not copied; without fs-verity it is read once, some minutes for this much.',
  },
  copiedBytesPerUser: {
    value: 4 * gib,
    why: 'Memfds are copied to the disk of the daemon and live as long as their mounts; a share for each user.',
  },
  copiedBytes: { value: 16 * gib, why: 'The copies of all users together, so that the disk does not fill.' },
  unverifiedBytesPerUser: {
    value: 2 * gib,
    why: 'Memfds of calls under way, which are read before anybody is known to vouch for them.',
  },
  unverifiedBytes: { value: 16 * gib, why: 'The same of all users: so much is read at most for nothing.' },
  recordedBytesPerUser: {
    value: 4 * mib,
    why: 'Signature files that came with mounts in use, for Reload to ask another policy: those of some thousand mounts.',
  },
  recordedBytes: { value: 32 * mib, why: 'The same of all users: they are held in memory.' },
  superblocksPerUser: {
    value: 256,
    why: 'Each superblock of a user holds kernel memory that the daemon cannot take back.',
  },
  superblocks: { value: 4096, why: 'The superblocks of all users together.' },
  loopDevicesPerUser: {
    value: 128,
    why: 'Each is a block device of the whole machine, with a thread in the kernel; half of what a user may mount.',
  },
  loopDevices: { value: 2048, why: 'The loop devices of all users together.' },
  threads: {
    value: 16,
    why: 'Threads that copy, measure, scan and mount; one waits idle. As many can stall before others have to wait.',
  },
  threadsPerUser: {
    value: 2,
    why: 'An eighth of the threads, so that few users together have them all either.',
  },
  lostThreads: {
    value: 32,
    why: 'Threads that a client has left waiting in the kernel for longer than stallMilliseconds; each holds some megabytes.',
  },
  waitingTasksPerUser: {
    value: 64,
    why: 'As many as the calls of one user that can be in flight need, several times over.',
  },
  stallMilliseconds: {
    value: 10_000,
    why: 'What a client can hold up (its FUSE, its NFS, its lease) is given up then and answered with TimedOut.',
  },
  closers: {
    value: 64,
    why: 'Threads that close the descriptors of peers: one for each user whose closing hangs, and one for all others. What cannot hang has one more.',
  },
  installedImagesOpen: {
    value: 1024,
    why: 'Each installed image that is kept open costs a descriptor and a lease.',
  },
  contentsKept: {
    value: 4096,
    why: 'Images whose contents are remembered, so that they are not read again.',
  },
  contentsBytesKept: {
    value: 256 * mib,
    why: 'The names of the objects of an image can take many megabytes.',
  },
  evidenceKept: { value: 4096, why: 'Verifications remembered for a policy; each is a kilobyte or two.' },
  mountsKept: {
    value: 512,
    why: 'Mounts of verified images that are cloned for the next request; each pins a superblock and its inodes.',
  },
  mountsKeptPerUser: {
    value: 64,
    why: 'An eighth of all: a user with many images does not push out those of others.',
  },
  keptMilliseconds: {
    value: 60_000,
    why: 'A kept mount that nobody asked for in the meantime goes: what it shows takes memory.',
  },
  objectsListed: {
    value: 64,
    why: 'The contract of the interface: how many missing objects an error lists.',
  },
  addingCallsPerUser: {
    value: 4,
    why: 'A call that adds files lasts as long as its copying: one user has a sixteenth of the turns for that at most.',
  },
  addingCalls: { value: 32, why: 'Half of callsInFlight: the other half is left to those who mount.' },
  addedBytesPerUser: {
    value: 16 * gib,
    why: 'What a user may add to stores within addedMilliseconds, in whole blocks; a rule may say less or more (add-bytes-per-hour).',
  },
  addedBytes: { value: 256 * gib, why: 'What all users together may add within addedMilliseconds.' },
  addedMilliseconds: {
    value: 3_600_000,
    why: 'The hour of addedBytes and addedBytesPerUser: it begins with the first file of a user.',
  },
  missingListed: { value: 1024, why: 'Names of missing files in a reply to AddObjects: 70 KiB of it.' },
  missingSearched: {
    value: 8192,
    why: 'How many files of an image one call to AddObjects looks for in a store; some ten milliseconds.',
  },
  logBytes: {
    value: 4 * mib,
    why: 'Lines of the log that nobody has read yet. From a quarter on nothing more is decided, so that every decision has its line.',
  },
  mountsPerSecondPerUser: {
    value: 2000,
    why: 'Mount and Verify; ten times as many at once. More than an honest caller needs, and each writes a line to the log.',
  },
  versionsPerRule: {
    value: 16_384,
    why: 'Names whose newest version is remembered for a rule: a signer gone bad could invent them without end.',
  },
};

const values = Object.fromEntries(
  Object.entries(limitTable).map(([name, limit]) => [name, limit.value]),
) as Record<LimitName, number>;

/** The values in force, as Describe answers them. */
export const limits: Readonly<Record<LimitName, number>> = values;

/** What the kernel or the interface's contract says is not for an administrator to change. */
const fixed: ReadonlySet<string> = new Set<LimitName>(['messageDescriptors', 'nameBytes', 'objectsListed']);

/**
 * Puts other values in force, by name. To be called before the service starts. Throws RangeError for a name that is no
 * limit or cannot be changed, for what is no whole number above 0, and for a share of one user that is more than all.
 */
export function adjustLimits(changes: ReadonlyMap<string, number>): void {
  const adjusted: Record<string, number> = { ...values };
  for (const [name, value] of changes) {
    if (!Object.hasOwn(values, name)) throw new RangeError(`there is no limit "${name}"`);
    if (fixed.has(name)) throw new RangeError(`the limit "${name}" cannot be changed`);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`the limit "${name}" takes a whole number above 0`);
    adjusted[name] = value;
  }
  for (const [name, value] of Object.entries(adjusted)) {
    const all = adjusted[name.replace(/PerUser$/, '')];
    if (all !== undefined && value > all)
      throw new RangeError(`the limit "${name}" is ${value}, and for all users together ${all}`);
  }
  Object.assign(values, adjusted);
}
