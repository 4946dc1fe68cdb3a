import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatFault, PolicyInvalid } from '../../../src/policy/fault.ts';
import type { LoadedPolicy } from '../../../src/policy/load.ts';
import { loadPolicy } from '../../../src/policy/load.ts';
import { checkPath } from '../../../src/policy/ownership.ts';
import { generateKeyPair } from '../../../src/trust/private-key.ts';
import { needs } from '../../support/needs.ts';
import { Random } from '../../support/random.ts';

const isRoot = process.getuid?.() === 0;
const rule = (name: string): string => `[[rules]]\nname = "${name}"\nunsigned = true\n`;

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-policy-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function write(path: string, text: string): string {
  const whole = join(folder, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, text);
  return whole;
}

function link(path: string, target: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  symlinkSync(target, join(folder, path));
}

function load(...names: readonly string[]): LoadedPolicy {
  return loadPolicy(
    names.map((name) => join(folder, name)),
    { owners: 'warn' },
  );
}

function ruleNames({ policy }: LoadedPolicy): string[] {
  return policy.rules.map(({ name }) => name);
}

/** The faults, with the test's own folder written as a dot. */
function faults(attempt: () => LoadedPolicy): string[] {
  try {
    attempt();
    return [];
  } catch (error) {
    if (error instanceof PolicyInvalid)
      return error.faults.map((fault) => formatFault(fault).replaceAll(folder, '.'));
    throw error;
  }
}

describe('policy files', () => {
  test('are applied in the order of their names, over all folders', () => {
    write('etc/policy.d/30-c.toml', rule('c'));
    write('usr/policy.d/20-b.toml', rule('b'));
    write('usr/policy.d/10-a.toml', rule('a'));
    write('usr/policy.d/README', 'not a policy');
    write('usr/policy.d/.hidden.toml', 'not a policy');
    const loaded = load('etc', 'usr');
    expect(ruleNames(loaded)).toEqual(['a', 'b', 'c']);
    expect(loaded.files).toEqual(
      ['usr/policy.d/10-a.toml', 'usr/policy.d/20-b.toml', 'etc/policy.d/30-c.toml'].map((path) =>
        join(folder, path),
      ),
    );
  });

  test('are applied by their names alone, whatever the order in which they came into the folder', () => {
    const names = ['50.toml', 'A.toml', '5.toml', 'a b.toml', 'é.toml', 'Z.toml', '10.toml'];
    const random = new Random(21);
    const orders = Array.from({ length: 8 }, (_, round) => {
      const order = names.map((name) => [random.below(1000), name] as const).sort(([a], [b]) => a - b);
      for (const [, name] of order) write(`${round}/policy.d/${name}`, rule(name));
      return ruleNames(load(String(round)));
    });
    const byBytes = ['10.toml', '5.toml', '50.toml', 'A.toml', 'Z.toml', 'a b.toml', 'é.toml'];
    expect(orders).toEqual(orders.map(() => byBytes));
  });

  test('that speak of the clock agree, or are at fault', () => {
    write('etc/policy.d/10.toml', '[clock]\nskew-seconds = 60\n');
    write('etc/policy.d/20.toml', '[clock]\nskew-seconds = 60\n');
    expect(load('etc').policy.clockSkew).toBe(60_000);
    write('etc/policy.d/30.toml', '[clock]\nskew-seconds = 61\n');
    expect(faults(() => load('etc'))).toEqual([
      './etc/policy.d/30.toml:2: clock.skew-seconds: 61, and another file says 60',
    ]);
  });

  test('hide those of the same name further down', () => {
    write('etc/policy.d/50.toml', rule('etc'));
    write('run/policy.d/50.toml', rule('run'));
    expect(ruleNames(load('etc', 'run'))).toEqual(['etc']);
    expect(ruleNames(load('run', 'etc'))).toEqual(['run']);
  });

  test('are masked by a link to /dev/null', () => {
    link('etc/policy.d/50.toml', '/dev/null');
    write('usr/policy.d/50.toml', rule('usr'));
    write('usr/policy.d/60.toml', rule('other'));
    expect(ruleNames(load('etc', 'usr'))).toEqual(['other']);
  });

  test('may be links to files', () => {
    write('real.toml', rule('linked'));
    link('etc/policy.d/50.toml', '../../real.toml');
    expect(ruleNames(load('etc'))).toEqual(['linked']);
  });

  test('find their keys in keys.d beside them', () => {
    const { publicPem } = generateKeyPair();
    write('usr/policy.d/50.toml', '[[keys]]\nid = "k"\nfile = "k.pub"\n');
    write('usr/keys.d/k.pub', publicPem);
    write('etc/policy.d/60.toml', '[[rules]]\nname = "r"\nsigned-by = ["k"]\n');
    expect(load('etc', 'usr').policy.keys.has('k')).toBe(true);
  });

  test('change the digest with any byte, those of keys too', () => {
    write('etc/policy.d/50.toml', '[[keys]]\nid = "k"\nfile = "k.pub"\n');
    write('etc/keys.d/k.pub', generateKeyPair().publicPem);
    const first = load('etc').policy.digest;
    expect(load('etc').policy.digest).toBe(first);
    write('etc/keys.d/k.pub', generateKeyPair().publicPem);
    expect(load('etc').policy.digest).not.toBe(first);
  });
});

describe('locations', () => {
  test('are those that links lead to as well', () => {
    mkdirSync(join(folder, 'usr/images'), { recursive: true });
    link('images', 'usr/images');
    write('etc/policy.d/50.toml', `[[rules]]\nname = "r"\nlocations = ["${join(folder, 'images')}"]\n`);
    expect(load('etc').policy.rules[0]?.locations).toEqual([
      join(folder, 'images'),
      join(folder, 'usr/images'),
    ]);
  });

  test('that go round in circles are a fault', () => {
    link('images', 'images');
    write('etc/policy.d/50.toml', `[[rules]]\nname = "r"\nlocations = ["${join(folder, 'images')}"]\n`);
    expect(faults(() => load('etc'))[0]).toContain(
      './etc/policy.d/50.toml:3: rules[0].locations[0]: more than 40 links',
    );
  });
});

describe('faults', () => {
  test('no folder holds a policy', () => {
    expect(faults(() => load('none', 'nowhere'))).toEqual([
      './none: no policy: none of ./none, ./nowhere holds policy.d',
    ]);
  });

  test('a folder that is missing beside one that is not is a warning', () => {
    write('etc/policy.d/50.toml', rule('r'));
    expect(load('etc', 'none').warnings.map((text) => text.replaceAll(folder, '.'))).toContain(
      './none/policy.d does not exist',
    );
  });

  test.each(['etc/policy.d', 'etc'])('%s that is a link to nowhere hides no folder further down', (path) => {
    write('usr/policy.d/50.toml', rule('r'));
    link(path, 'nowhere');
    const found = faults(() => load('etc', 'usr'));
    expect(found).toHaveLength(1);
    expect(found[0]).toContain('./etc/policy.d: ENOENT');
  });

  test('a broken link, a folder and a FIFO are no policy files', () => {
    link('etc/policy.d/10.toml', 'nowhere');
    mkdirSync(join(folder, 'etc/policy.d/20.toml'), { recursive: true });
    execFileSync('/usr/bin/mkfifo', [join(folder, 'etc/policy.d/30.toml')]);
    link('etc/policy.d/40.toml', '40.toml');
    const found = faults(() => load('etc'));
    expect(found).toHaveLength(4);
    expect(found[0]).toContain('./etc/policy.d/10.toml: ENOENT');
    expect(found[1]).toBe('./etc/policy.d/20.toml: not a regular file');
    expect(found[2]).toBe('./etc/policy.d/30.toml: not a regular file');
    expect(found[3]).toContain('./etc/policy.d/40.toml: more than 40 links');
  });

  test('a file too long, and one that is no text', () => {
    write('etc/policy.d/10.toml', `#${'x'.repeat(1_048_576)}`);
    write('etc/policy.d/20.toml', '');
    writeFileSync(join(folder, 'etc/policy.d/20.toml'), new Uint8Array([0x23, 0xff]));
    expect(faults(() => load('etc'))).toEqual([
      './etc/policy.d/10.toml: longer than 1048576 bytes',
      './etc/policy.d/20.toml: not UTF-8',
    ]);
  });

  test('a bad key file is one fault with file, line and key, beside those of other files', () => {
    write(
      'etc/policy.d/50.toml',
      `[[keys]]\nid = "k"\nfile = "k.pub"\n[[rules]]\nname = "r"\nsigned-by = ["k"]\n`,
    );
    write('etc/keys.d/k.pub', 'no key at all');
    write('etc/policy.d/60.toml', '[[rule]]\n');
    expect(faults(() => load('etc'))).toEqual([
      './etc/policy.d/50.toml:3: keys[0].file: ./etc/keys.d/k.pub is no usable key: ' +
        'neither PEM, nor a line of OpenSSH, nor base64 of a public key in DER',
      './etc/policy.d/60.toml:1: unknown table "rule"; did you mean "rules"?',
    ]);
  });
});

describe.skipIf(needs('kernel', isRoot, 'owners can only be changed by root'))('owners and modes', () => {
  const strict = (...names: readonly string[]): LoadedPolicy =>
    loadPolicy(
      names.map((name) => join(folder, name)),
      { owners: 'refuse' },
    );

  function good(): void {
    chmodSync(folder, 0o755);
    write('etc/policy.d/50.toml', '[[keys]]\nid = "k"\nfile = "k.pub"\n');
    write('etc/keys.d/k.pub', generateKeyPair().publicPem);
    chmodSync(join(folder, 'etc/policy.d/50.toml'), 0o644);
    chmodSync(join(folder, 'etc/keys.d/k.pub'), 0o644);
    for (const path of ['etc', 'etc/policy.d', 'etc/keys.d']) chmodSync(join(folder, path), 0o755);
  }

  test('that are right pass, below a sticky folder of root too', () => {
    good();
    expect(strict('etc').warnings).toEqual([]);
  });

  test.each([
    ['etc/policy.d/50.toml', 0o664, 'can be written by others than root (mode 0664)'],
    ['etc/policy.d/50.toml', 0o646, 'can be written by others than root (mode 0646)'],
    ['etc/keys.d/k.pub', 0o666, 'can be written by others than root (mode 0666)'],
    ['etc/keys.d', 0o775, 'can be written by others than root (mode 0775)'],
    ['etc/policy.d', 0o777, 'can be written by others than root (mode 0777)'],
    ['etc', 0o757, 'can be written by others than root (mode 0757)'],
  ])('%s of mode %o is refused', (path, mode, expected) => {
    good();
    chmodSync(join(folder, path), mode);
    const found = faults(() => strict('etc'));
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`./${path} ${expected}`);
    expect(load('etc').warnings.join('\n')).toContain(expected);
  });

  test.each(['etc/policy.d/50.toml', 'etc/keys.d/k.pub', 'etc/keys.d', 'etc/policy.d', 'etc'])(
    '%s of another user is refused',
    (path) => {
      good();
      chownSync(join(folder, path), 1000, 0);
      expect(faults(() => strict('etc')).join('\n')).toContain(`./${path} belongs to user 1000, not to root`);
    },
  );

  test.each(['etc/policy.d', 'etc'])(
    '%s that others can write is refused where it holds nothing (any more)',
    (path) => {
      good();
      mkdirSync(join(folder, 'run/policy.d'), { recursive: true });
      for (const each of ['run', 'run/policy.d']) chmodSync(join(folder, each), 0o755);
      expect(faults(() => strict('run', 'etc'))).toEqual([]);
      const emptied = path.replace('etc', 'run');
      chmodSync(join(folder, emptied), 0o775);
      const expected = [
        expect.stringContaining(`./${emptied} can be written by others than root (mode 0775)`),
      ];
      expect(faults(() => strict('run', 'etc'))).toEqual(expected);
      rmSync(join(folder, 'run/policy.d'), { recursive: true });
      expect(faults(() => strict('run', 'etc'))).toEqual(path === 'etc' ? expected : []);
    },
  );

  test('a folder that is sticky but not root’s is refused', () => {
    good();
    chmodSync(join(folder, 'etc'), 0o1777);
    expect(faults(() => strict('etc'))).toEqual([]);
    chownSync(join(folder, 'etc'), 1000, 0);
    expect(faults(() => strict('etc')).join('\n')).toContain('belongs to user 1000');
  });

  test('a link is only as good as every folder on the way to its target', () => {
    good();
    write('loose/50.toml', rule('r'));
    link('etc/policy.d/60.toml', join(folder, 'loose/50.toml'));
    expect(faults(() => strict('etc'))).toEqual([]);
    chmodSync(join(folder, 'loose'), 0o777);
    expect(faults(() => strict('etc'))).toEqual([
      './etc/policy.d/60.toml: ./loose can be written by others than root (mode 0777)',
    ]);
  });

  test('hold for image directories and trusted stores', () => {
    good();
    mkdirSync(join(folder, 'images'));
    mkdirSync(join(folder, 'store'));
    chmodSync(join(folder, 'images'), 0o777);
    chmodSync(join(folder, 'store'), 0o777);
    const entry = (table: string, path: string, more: string): string =>
      `[[${table}]]\npath = "${join(folder, path)}"\n${more}\n`;
    write(
      'etc/policy.d/60.toml',
      entry('image-directories', 'images', '') + entry('stores', 'store', 'name = "s"\nverity = "trusted"'),
    );
    expect(faults(() => strict('etc'))).toEqual([
      './etc/policy.d/60.toml:2: image-directories[0].path: ./images can be written by others than root (mode 0777)',
      './etc/policy.d/60.toml:5: stores[0].path: ./store can be written by others than root (mode 0777)',
    ]);
    write('etc/policy.d/60.toml', entry('stores', 'store', 'name = "s"\nverity = "require"'));
    expect(faults(() => strict('etc'))).toEqual([]);
  });
});

describe('checkPath', () => {
  test('resolves links and dots as the kernel does', () => {
    write('a/b/file', '');
    link('a/link', 'b/../b');
    link('absolute', join(folder, 'a'));
    expect(checkPath(join(folder, 'absolute/link/file')).real).toBe(join(folder, 'a/b/file'));
    expect(checkPath(join(folder, 'a/none/file'))).toMatchObject({
      real: join(folder, 'a/none/file'),
      exists: false,
    });
  });
});
