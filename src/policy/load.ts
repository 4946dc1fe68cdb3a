import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { keyFileBytesMax } from '../trust/key.ts';
import type { Accounts } from './accounts.ts';
import { parseAccounts } from './accounts.ts';
import type { PolicyFault } from './fault.ts';
import { FieldInvalid, PolicyInvalid, sortFaults } from './fault.ts';
import { checkPath, ownershipProblem } from './ownership.ts';
import type { PolicyFile } from './parse.ts';
import { parsePolicy, policyFileBytesMax, policyFilesMax } from './parse.ts';
import type { Policy } from './policy.ts';

/** Where policies are looked for, the first coming first: a file hides those of its name further down. */
export const defaultPolicyDirectories: readonly string[] = [
  '/etc/cfs-mountd',
  '/run/cfs-mountd',
  '/usr/local/lib/cfs-mountd',
  '/usr/lib/cfs-mountd',
];

/** What to do about files that others than root could have written: the daemon refuses, tools warn. */
export interface LoadOptions {
  readonly owners: 'refuse' | 'warn';
}

/** A policy as it was found on disk. */
export interface LoadedPolicy {
  readonly policy: Policy;
  /** The policy files in force, in the order in which they were applied. */
  readonly files: readonly string[];
  /** What does not keep the policy from loading, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Loads the policy of the folders, each of which holds policy.d and keys.d. Throws PolicyInvalid with every fault
 * found, also where none of the folders holds a policy.
 */
export function loadPolicy(directories: readonly string[], options: LoadOptions): LoadedPolicy {
  const load = new Load(options);
  const paths = load.find(directories.map((directory) => resolve(directory)));
  const files = paths.map((path) => load.policyFile(path)).filter((file) => file !== undefined);
  const policy = load.parse(files);
  return { policy, files: files.map(({ path }) => path), warnings: load.warnings };
}

/** One attempt at loading: what was found wrong, and what to warn of. */
class Load {
  readonly warnings: string[] = [];
  readonly #faults: PolicyFault[] = [];
  readonly #told = new Set<string>();
  readonly #owners: LoadOptions['owners'];

  constructor({ owners }: LoadOptions) {
    this.#owners = owners;
  }

  /** The policy files that nothing hides, in the order of their names. */
  find(directories: readonly string[]): readonly string[] {
    const found = new Map<string, string>();
    let folders = 0;
    for (const directory of directories) {
      const folder = join(directory, 'policy.d');
      this.#checkFolder(folder);
      if (isAbsent(directory) || (isAbsent(folder) && existsSync(directory))) {
        if (!defaultPolicyDirectories.includes(directory)) this.warnings.push(`${folder} does not exist`);
        continue;
      }
      folders++;
      for (const name of this.#list(folder)) {
        if (name.endsWith('.toml') && !name.startsWith('.') && !found.has(name))
          found.set(name, join(folder, name));
      }
    }
    if (folders === 0)
      this.#fault(directories[0] ?? '', `no policy: none of ${directories.join(', ')} holds policy.d`);
    const names = [...found.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    if (names.length > policyFilesMax) {
      this.#fault(directories[0] ?? '', `${names.length} policy files are more than ${policyFilesMax}`);
    }
    return names.slice(0, policyFilesMax).map((name) => found.get(name) ?? '');
  }

  /** The text of a policy file, or undefined where it is masked, or at fault and reported. */
  policyFile(path: string): PolicyFile | undefined {
    try {
      const text = this.#read(path, policyFileBytesMax, (problem) => {
        this.#fault(path, problem);
      });
      return text === undefined ? undefined : { path, text };
    } catch (error) {
      this.#fault(path, reasonOf(error));
      return undefined;
    }
  }

  /** Parses the files, and throws what was found wrong up to now together with what is wrong in them. */
  parse(files: readonly PolicyFile[]): Policy {
    let policy: Policy | undefined;
    const faults = this.#faults;
    try {
      policy = parsePolicy(files, {
        accounts: readAccounts(),
        complete: faults.length === 0,
        readKey: (policyFile, name) => this.#keyFile(join(dirname(dirname(policyFile)), 'keys.d', name)),
        realPath: (path) => orFieldInvalid(path, () => checkPath(path).real),
        checkDirectory: (path) => {
          this.#directory(path);
        },
      });
    } catch (error) {
      if (!(error instanceof PolicyInvalid)) throw error;
      faults.push(...error.faults);
    }
    const [first, ...others] = sortFaults(faults);
    if (first !== undefined) throw new PolicyInvalid([first, ...others]);
    if (policy === undefined) throw new RangeError('a policy without a fault did not load');
    return policy;
  }

  /** Whoever can take files away, or the folder, takes revocations and what they hide away: also where nothing is left by now. */
  #checkFolder(folder: string): void {
    try {
      for (const problem of checkPath(folder).problems)
        this.#tell(problem, () => {
          this.#fault(folder, problem);
        });
    } catch (error) {
      this.#fault(folder, reasonOf(error));
    }
  }

  #list(folder: string): readonly string[] {
    try {
      return readdirSync(folder);
    } catch (error) {
      this.#fault(folder, reasonOf(error));
      return [];
    }
  }

  #keyFile(path: string): PolicyFile {
    const text = orFieldInvalid(path, () => this.#read(path, keyFileBytesMax, refuseField));
    if (text === undefined) throw new FieldInvalid(`${path} is a link to /dev/null`);
    return { path, text };
  }

  /** Image directories and trusted stores; each is checked again when it is used. */
  #directory(path: string): void {
    const { exists, problems } = orFieldInvalid(path, () => checkPath(path));
    if (!exists) this.warnings.push(`${path} does not exist`);
    for (const problem of problems) this.#tell(problem, refuseField);
  }

  /** The text of a file, or undefined where it is a link to /dev/null. Ownership is told to `refuse`, or a warning. */
  #read(path: string, bytesMax: number, refuse: (problem: string) => void): string | undefined {
    const { real, problems } = checkPath(path);
    for (const problem of problems) this.#tell(problem, refuse);
    if (real === '/dev/null') return undefined;
    // Without O_NONBLOCK a FIFO in place of the file would hold us up for ever.
    const fd = openSync(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile()) throw new FieldInvalid('not a regular file');
      const problem = ownershipProblem(real, stats);
      if (problem !== undefined && !problems.includes(problem)) this.#tell(problem, refuse);
      return decode(readUpTo(fd, bytesMax));
    } finally {
      closeSync(fd);
    }
  }

  /** Refuses or warns, and does so once: a folder that is at fault is on the way to many files. */
  #tell(problem: string, refuse: (problem: string) => void): void {
    if (this.#told.has(problem)) return;
    this.#told.add(problem);
    if (this.#owners === 'refuse') refuse(problem);
    else this.warnings.push(problem);
  }

  #fault(file: string, reason: string): void {
    this.#faults.push({ file, line: 0, key: undefined, reason });
  }
}

function refuseField(problem: string): never {
  throw new FieldInvalid(problem);
}

/** Whether there is nothing of that name. A link that leads nowhere is there, and hides a mistake: what lies behind it does not count. */
function isAbsent(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) === undefined;
}

/** The whole file; it may have grown since its size was asked. Throws FieldInvalid beyond the limit. */
function readUpTo(fd: number, bytesMax: number): Buffer {
  const buffer = Buffer.alloc(bytesMax + 1);
  let length = 0;
  for (;;) {
    const read = readSync(fd, buffer, length, buffer.length - length, null);
    length += read;
    if (length > bytesMax) throw new FieldInvalid(`longer than ${bytesMax} bytes`);
    if (read === 0) return buffer.subarray(0, length);
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new FieldInvalid('not UTF-8');
  }
}

/** Users and groups that only a name service (LDAP and the like) knows have to be written as IDs. */
function readAccounts(): Accounts {
  return parseAccounts(readIfThere('/etc/passwd'), readIfThere('/etc/group'));
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** What `read` returns; what it throws becomes the reason why a field does not fit. */
function orFieldInvalid<Value>(path: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    const reason = reasonOf(error);
    throw new FieldInvalid(reason.includes(path) ? reason : `${path}: ${reason}`);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : 'cannot be read';
}
