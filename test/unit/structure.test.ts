import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');

/** Which folders of src a folder may import from, besides itself: imports go one way. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  varlink: ['base'],
  api: ['varlink'],
  verity: ['base'],
  composefs: ['base', 'verity'],
  ddi: ['base', 'superblock', 'trust'],
  trust: ['base'],
  superblock: ['trust'],
  policy: ['base', 'trust'],
  mount: ['base', 'policy'],
  sys: ['base', 'verity', 'mount'],
  store: ['base', 'verity', 'composefs', 'sys'],
  daemon: [
    'base',
    'varlink',
    'api',
    'verity',
    'composefs',
    'superblock',
    'ddi',
    'trust',
    'policy',
    'mount',
    'sys',
    'store',
  ],
  client: ['base', 'varlink', 'api', 'verity', 'trust', 'mount', 'policy', 'sys'],
  cli: [
    'base',
    'varlink',
    'api',
    'verity',
    'composefs',
    'superblock',
    'ddi',
    'trust',
    'policy',
    'mount',
    'sys',
    'store',
    'client',
    'daemon',
  ],
  demo: ['base', 'sys'],
};

/** The same of the folders within src/daemon; the files beside them put them together. */
const mayImportInDaemon: Readonly<Record<string, readonly string[]>> = {
  callers: [],
  calls: ['callers'],
  threads: ['callers'],
  images: ['callers', 'calls', 'threads'],
  mounts: ['callers', 'calls', 'threads', 'images'],
  adding: ['callers', 'calls', 'threads', 'mounts'],
  connections: ['callers', 'calls', 'threads'],
};

/** Files that may import a package, by package; one that is not listed here may be imported nowhere. */
const packages: Readonly<Record<string, RegExp>> = {
  koffi: /^src\/sys\/ffi\.ts$/,
  pino: /^src\/(daemon|cli)\//,
  '@noble/curves': /^src\/trust\//,
  '@peculiar/asn1-schema': /^src\/trust\//,
  '@peculiar/asn1-cms': /^src\/trust\//,
  '@peculiar/asn1-x509': /^src\/trust\//,
  '@noble/hashes': /^src\/(verity|trust)\//,
  'smol-toml': /^src\/policy\//,
  commander: /^src\/(cli|demo)\//,
};

/** Folders whose code reads no file, no clock, no network and writes no log. */
const pure = ['base', 'varlink', 'api', 'verity', 'composefs', 'ddi', 'superblock', 'trust', 'mount'];

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
    .sort();
}

function imports(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const found = text.matchAll(/(?:^|\n)\s*(?:import|export)\s[^;'"]*?from\s*'([^']+)'|import\(\s*'([^']+)'/g);
  return [...found].map((match) => match[1] ?? match[2] ?? '');
}

const files = sources('src');

describe('who imports whom', () => {
  test('folders of src import only in the direction of the table', () => {
    const faults: string[] = [];
    for (const file of files) {
      const folder = file.split('/')[1] ?? '';
      for (const name of imports(file).filter((name) => name.startsWith('.'))) {
        const target = relative(join(root, 'src'), resolve(root, dirname(file), name)).split('/')[0] ?? '';
        if (target !== folder && !(mayImport[folder] ?? []).includes(target)) faults.push(`${file}: ${name}`);
      }
    }
    expect(faults).toEqual([]);
  });

  test('folders of the daemon import only in the direction of the table', () => {
    const faults: string[] = [];
    for (const file of files.filter((file) => /^src\/daemon\/.*\//.test(file))) {
      const folder = file.split('/')[2] ?? '';
      for (const name of imports(file).filter((name) => name.startsWith('.'))) {
        const target = relative(root, resolve(root, dirname(file), name)).split('/');
        if (target[1] !== 'daemon' || target[2] === folder) continue;
        if (!(mayImportInDaemon[folder] ?? []).includes(target[2] ?? '')) faults.push(`${file}: ${name}`);
      }
    }
    expect(faults).toEqual([]);
  });

  test('no file imports itself, through however many others', () => {
    const targets = new Map(
      files.map((file) => [
        file,
        imports(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => relative(root, resolve(root, dirname(file), name))),
      ]),
    );
    const done = new Set<string>();
    const circle = (file: string, way: readonly string[]): readonly string[] => {
      if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
      if (done.has(file)) return [];
      const found = (targets.get(file) ?? []).map((target) => circle(target, [...way, file]));
      done.add(file);
      return found.find((each) => each.length > 0) ?? [];
    };
    expect(files.map((file) => circle(file, [])).filter((found) => found.length > 0)).toEqual([]);
  });

  test('each package is imported where the table says, and no other package is', () => {
    const faults: string[] = [];
    for (const file of files) {
      for (const name of imports(file).filter((name) => !name.startsWith('.') && !name.startsWith('node:'))) {
        const key = name.startsWith('@') ? name.split('/').slice(0, 2).join('/') : (name.split('/')[0] ?? '');
        if (packages[key]?.test(file) !== true) faults.push(`${file}: ${name}`);
      }
    }
    expect(faults).toEqual([]);
  });

  test('the core reads no file and no clock', () => {
    const faults: string[] = [];
    for (const file of files.filter((file) => pure.includes(file.split('/')[1] ?? ''))) {
      const text = readFileSync(join(root, file), 'utf8');
      if (/from 'node:(fs|net|child_process|worker_threads|os)/.test(text)) faults.push(`${file}: I/O`);
      if (/\bDate\.now\(|new Date\(\)|performance\.now\(/.test(text)) faults.push(`${file}: a clock`);
      if (/\bconsole\./.test(text)) faults.push(`${file}: a log`);
    }
    expect(faults).toEqual([]);
  });

  test('the daemon imports no program and the programs nothing of the daemon but its start', () => {
    const faults: string[] = [];
    for (const file of sources('src/cli').filter((file) => !file.endsWith('cfs-mountd.ts'))) {
      for (const name of imports(file)) if (name.includes('/daemon/')) faults.push(`${file}: ${name}`);
    }
    expect(faults).toEqual([]);
  });
});

test('every test that the threat model names is there', () => {
  const text = readFileSync(join(root, '.github/SECURITY.md'), 'utf8');
  const named = [...text.matchAll(/`((?:test|src)\/[^`]+)`/g)].map((match) => match[1] ?? '');
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

describe('what is not written here', () => {
  const bans: readonly (readonly [string, RegExp, RegExp?])[] = [
    ['a default export', /^export default/m, /skips-reporter|build\.ts|vitest\.config/],
    ['an enum', /^\s*(export )?(const )?enum\s/m],
    ['a switched-off check', /eslint-disable|@ts-ignore|@ts-expect-error|@ts-nocheck/],
    // The tests of interface descriptions write varlink's own `any`.
    ['the type any', /[:<]\s*any\b|\bas any\b/, /^test\/unit\/varlink\//],
    ['a loose end', /\b(TODO|FIXME|XXX)\b/],
    ['a test switched off or alone', /\b(test|it|describe)\.(only|skip|todo)\(/],
    ['a folder of one machine', /['"`]\/work\//],
  ];
  const own = 'test/unit/structure.test.ts';
  const everything = [...files, ...sources('test')].filter((file) => file !== own);

  test.each(bans.map(([name, pattern, except]) => ({ name, pattern, except })))(
    '$name',
    ({ pattern, except }) => {
      const faults = everything.filter(
        (file) => except?.test(file) !== true && pattern.test(readFileSync(join(root, file), 'utf8')),
      );
      expect(faults).toEqual([]);
    },
  );

  test('a COMPAT mark names the version that makes it unnecessary', () => {
    const faults = files.filter((file) =>
      /COMPAT(?!\(\d+\.\d+\): )/.test(readFileSync(join(root, file), 'utf8')),
    );
    expect(faults).toEqual([]);
  });

  test('names that say nothing: barrels, helpers, utils', () => {
    const faults = files.filter((file) => /(^|\/)(index|types|common|utils?|helpers?|misc)\.ts$/.test(file));
    expect(faults).toEqual([]);
  });

  test('files of more than 400 lines', () => {
    const written = files.filter((file) => !file.startsWith('src/api/'));
    const long = written.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length > 401);
    expect(long).toEqual([]);
  });
});
