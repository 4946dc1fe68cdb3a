import { CommandError } from './command-error.ts';

/** The command line of a mount(8) helper. */
export interface MountArguments {
  readonly kind: 'mount';
  readonly image: string;
  readonly directory: string;
  /** The lists after each `-o`. */
  readonly options: readonly string[];
  /** -s: unknown options are no error. */
  readonly sloppy: boolean;
  /** -f: everything but the mount. */
  readonly fake: boolean;
  /** -v: say what was done. */
  readonly verbose: boolean;
  /** -N: pid of a process in the mount namespace to attach in, or a file that stands for one. */
  readonly namespace: string | undefined;
  /** -t: a filesystem, or `cfs-delegated.FILESYSTEM`; undefined where it says nothing beyond the helper's own name. */
  readonly type: string | undefined;
}

/** What the command line asks for. */
export type ParsedArguments = MountArguments | { readonly kind: 'help' } | { readonly kind: 'version' };

/** Letters that take a value: the rest of their word, or the next word. */
const withValue = new Set(['o', 't', 'N']);

/**
 * The arguments as mount(8) passes them to a helper: `IMAGE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, in any
 * order. Throws CommandError, exit code 1.
 */
export function parseMountArguments(words: readonly string[]): ParsedArguments {
  const operands: string[] = [];
  const flags = new Set<string>();
  const values = { o: [] as string[], t: [] as string[], N: [] as string[] };
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    if (word === '--help' || word === '-h') return { kind: 'help' };
    if (word === '--version' || word === '-V') return { kind: 'version' };
    if (word === '--') {
      operands.push(...words.slice(index + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      operands.push(word);
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word.charAt(at);
      if (withValue.has(letter)) {
        const value = at + 1 < word.length ? word.slice(at + 1) : words[++index];
        if (value === undefined) throw usage(`-${letter} needs a value`);
        values[letter as 'o' | 't' | 'N'].push(value);
        break;
      }
      if (!'sfnv'.includes(letter)) throw usage(`unknown option "${word}"`);
      flags.add(letter);
    }
  }
  const [image, directory, ...more] = operands;
  if (image === undefined || image === '' || directory === undefined || directory === '') {
    throw usage('IMAGE and DIR are needed');
  }
  if (more[0] !== undefined) throw usage(`"${more[0]}" is one argument too many`);
  return {
    kind: 'mount',
    image,
    directory,
    options: values.o,
    sloppy: flags.has('s'),
    fake: flags.has('f'),
    verbose: flags.has('v'),
    namespace: values.N.at(-1),
    type: values.t.map(subtype).findLast((type) => type !== undefined),
  };
}

/** `cfs-delegated` says nothing, `cfs-delegated.erofs` and `erofs` say erofs. */
function subtype(type: string): string | undefined {
  if (type === 'cfs-delegated') return undefined;
  return type.startsWith('cfs-delegated.') ? type.slice('cfs-delegated.'.length) : type;
}

function usage(reason: string): CommandError {
  return new CommandError(`${reason}; try --help`);
}
