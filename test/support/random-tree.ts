import { Random } from './random.ts';

/** What make-trees.py makes: names and values are binary strings, `time` is in nanoseconds. */
interface Attributes {
  readonly path: string;
  readonly mode: number;
  readonly owner: readonly [number, number];
  readonly time: string;
  readonly xattrs: readonly (readonly [string, string])[];
}

type Kind =
  | { readonly type: 'directory' | 'fifo' | 'socket' }
  | { readonly type: 'file'; readonly size: number; readonly data: readonly (readonly [number, string])[] }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'character' | 'block'; readonly device: readonly [number, number] };

/** An entry of a tree, its directory before it; the root has the empty path. */
export type RandomEntry =
  (Attributes & Kind) | { readonly type: 'link'; readonly path: string; readonly target: string };

/** What a tree may hold beside files, directories, symbolic links, pipes and sockets. */
export interface Spice {
  readonly devices: boolean;
  readonly hardLinks: boolean;
}

const sizes = [0, 1, 63, 64, 65, 100, 4095, 4096, 4097, 8192, 70_000] as const;
const alphabet = [
  'a',
  'Z',
  '0',
  ' ',
  '.',
  '\\',
  '=',
  '-',
  '\n',
  '\t',
  '\x01',
  '\x7f',
  '\xff',
  '\xc3',
  ',',
  '"',
] as const;
const times = ['0', '1', '-1', '-1500000000', '1700000000000000001', '4294967296500000000'] as const;
const prefixes = ['user.', 'trusted.', 'security.', 'trusted.overlay.', 'user.overlay.'] as const;

/** A tree that is the same for the same seed. */
export function randomTree(seed: number, spice: Spice): RandomEntry[] {
  return new Tree(new Random(seed), spice).entries;
}

class Tree {
  readonly entries: RandomEntry[] = [];
  readonly #random: Random;
  readonly #spice: Spice;
  readonly #taken = new Set<string>();
  readonly #directories: [string, ...string[]] = [''];
  readonly #linkable: string[] = [];

  constructor(random: Random, spice: Spice) {
    this.#random = random;
    this.#spice = spice;
    this.entries.push({ type: 'directory', ...this.#attributes('') });
    for (let count = random.below(40); count > 0; count--) this.#add();
  }

  #add(): void {
    const directory = this.#random.pick(this.#directories);
    const name = this.#name();
    const path = directory === '' ? name : `${directory}/${name}`;
    if (name === '.' || name === '..' || path.length > 3000 || this.#taken.has(path)) return;
    this.#taken.add(path);
    const target = this.#spice.hardLinks && this.#random.below(6) === 0 ? this.#target() : undefined;
    if (target !== undefined) {
      this.entries.push({ type: 'link', path, target });
      return;
    }
    const kind = this.#kind();
    if (kind.type === 'directory') this.#directories.push(path);
    else this.#linkable.push(path);
    this.entries.push({
      ...kind,
      ...this.#attributes(path, kind.type === 'file' || kind.type === 'directory'),
    });
  }

  #target(): string | undefined {
    return this.#linkable[this.#random.below(this.#linkable.length + 1)];
  }

  #kind(): Kind {
    const { devices } = this.#spice;
    switch (this.#random.below(devices ? 12 : 10)) {
      case 0:
      case 1:
      case 2:
        return { type: 'directory' };
      case 3:
        return {
          type: 'symlink',
          target: this.#text(this.#random.pick([1, 20, 300, 2000])).replaceAll('\0', 'x'),
        };
      case 4:
        return { type: this.#random.pick(['fifo', 'socket']) };
      case 10:
        return {
          type: 'character',
          device: this.#random.pick([
            [0, 0],
            [1, 3],
            [511, 1_048_575],
          ]),
        };
      case 11:
        return {
          type: 'block',
          device: this.#random.pick([
            [8, 17],
            [0, 0],
          ]),
        };
      default:
        return this.#file();
    }
  }

  #file(): Kind {
    const size = this.#random.pick(sizes);
    if (this.#random.below(8) > 0 || size === 0) {
      // Some contents are shared between files, and between trees.
      const unit = `${this.#random.below(5)} of ${size} `;
      return { type: 'file', size, data: [[0, unit.repeat(Math.ceil(size / unit.length)).slice(0, size)]] };
    }
    // A sparse file: a few bytes somewhere between holes.
    return { type: 'file', size: size * 40, data: [[this.#random.below(size), 'x']] };
  }

  #attributes(path: string, user = false): Attributes {
    const random = this.#random;
    const owner = (): number => random.pick([0, 0, 0, 1000, 65_535, 65_536, 4_294_967_294]);
    const xattrs = new Map<string, string>();
    for (let count = Math.max(random.below(7) - 3, 0); count > 0; count--) {
      const prefix = random.pick(prefixes);
      // Only files and directories may have attributes of users, and security modules judge what they know.
      if (prefix.startsWith('user.') && !user) continue;
      xattrs.set(`${prefix}number-${random.below(4)}`, this.#text(random.pick([0, 3, 40])));
    }
    const mode = random.pick([0o755, 0o644, 0, 0o1777, 0o4755, 0o6711, random.below(0o10000)]);
    return { path, mode, owner: [owner(), owner()], time: random.pick(times), xattrs: [...xattrs] };
  }

  #name(): string {
    if (this.#random.below(3) > 0) return `name-${this.#random.below(50)}`;
    // Names that the object store has as well are hidden by whiteouts in an image's root unless they are taken.
    if (this.#random.below(6) === 0) return this.#random.pick(['00', 'ff', 'a0']);
    return this.#text(this.#random.pick([1, 2, 9, 255])).replaceAll('/', '_');
  }

  #text(length: number): string {
    return Array.from({ length }, () => this.#random.pick(alphabet)).join('');
  }
}
