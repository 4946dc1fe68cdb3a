import { randomBytes } from 'node:crypto';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { objectPath } from '../../../src/store/objects.ts';
import { verityDigest } from '../../../src/verity/verity.ts';
import { Signer } from '../../support/hosting.ts';
import { isRoot, needs } from '../../support/needs.ts';
import { run } from './image-program.ts';

let folder: string;
let image: string;
let store: string;
const contents = 'what the large file holds '.repeat(50);
const object = objectPath(verityDigest(Buffer.from(contents)));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-image-'));
  image = join(folder, 'image.cfs');
  store = join(folder, 'store');
  mkdirSync(join(folder, 'source', 'dir'), { recursive: true });
  writeFileSync(join(folder, 'source', 'dir', 'large'), contents);
  writeFileSync(join(folder, 'source', 'small'), 'small');
  linkSync(join(folder, 'source', 'small'), join(folder, 'source', 'dir', 'again'));
  symlinkSync('dir/large', join(folder, 'source', 'link'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function build(...more: readonly string[]): ReturnType<typeof run> {
  return run('build', join(folder, 'source'), '--store', store, '--output', image, ...more);
}

describe('build', () => {
  test('writes the image and the store, and prints the digest', async () => {
    const { stdout, failure } = await build();
    expect(failure).toBeUndefined();
    expect(stdout).toBe(`${verityDigest(readFileSync(image))}\n`);
    expect(readFileSync(join(store, object), 'utf8')).toBe(contents);
    expect(readdirSync(folder).sort()).toEqual(['image.cfs', 'source', 'store']);
  });

  test('says with --print-digest-only which digest an image would have, and writes nothing', async () => {
    const source = join(folder, 'source');
    const only = await run('build', source, '--print-digest-only');
    expect(only.failure).toBeUndefined();
    expect(readdirSync(folder)).toEqual(['source']);
    expect(only.stdout).toBe((await build()).stdout);
    expect((await run('build', source, '--store', store)).failure).toContain('--output is needed');
    expect((await build('--print-digest-only')).failure).toContain('cannot be used with');
  });

  test('makes the same of the same, and another layout of another version', async () => {
    const first = await build();
    expect((await build()).stdout).toBe(first.stdout);
    expect((await build('--min-version', '1')).stdout).toBe(first.stdout);
    const zero = await build('--format-version', '0');
    expect(zero.stdout).not.toBe(first.stdout);
    expect((await build('--max-version', '1')).stdout).toBe(zero.stdout);
  });

  test('gives everything the owner that is asked for', async () => {
    await build('--owner', '12:34');
    const { stdout } = await run('ls', image);
    expect(stdout.trimEnd().split('\n')).toHaveLength(6);
    for (const line of stdout.trimEnd().split('\n')) expect(line).toContain(' 12:34 ');
  });

  test('from a dump gives the image that the dump is of', async () => {
    const { stdout: digest } = await build();
    const { stdout: dump } = await run('dump', image);
    writeFileSync(join(folder, 'dump'), Buffer.from(dump, 'latin1'));
    const again = join(folder, 'again');
    const rebuilt = await run('build', '--from-file', join(folder, 'dump'), '--output', again);
    expect(rebuilt).toEqual({ stdout: digest, stderr: '', failure: undefined });
    expect(readFileSync(again).equals(readFileSync(image))).toBe(true);
  });

  test('from a dump warns of objects that the store lacks', async () => {
    await build();
    const { stdout: dump } = await run('dump', image);
    writeFileSync(join(folder, 'dump'), Buffer.from(dump, 'latin1'));
    rmSync(join(store, object));
    const { stderr, failure } = await run(
      'build',
      '--from-file',
      join(folder, 'dump'),
      '--output',
      image,
      '--store',
      store,
    );
    expect(failure).toBeUndefined();
    expect(stderr).toContain(`${store}: 1 of 1 objects are not in the store`);
  });

  test.each([
    [['--owner', 'root:root'], 'UID:GID'],
    [['--owner', '4294967295:0'], 'UID:GID'],
    [['--format-version', '2'], 'The format version is 0 or 1'],
    [['--format-version', '1', '--min-version', '0'], 'cannot be used with'],
    [['--min-version', '1', '--max-version', '0'], '--min-version is higher'],
  ])('refuses %j', async (options, message) => {
    expect((await build(...options)).failure).toContain(message);
    expect(readdirSync(folder).sort()).toEqual(['source']);
  });

  test('says what is missing, and leaves no image', async () => {
    expect((await run('build', join(folder, 'none'), '--store', store, '--output', image)).failure).toBe(
      `${folder}/none: it is not there, or vanished while it was read`,
    );
    expect((await run('build', join(folder, 'source'), '--output', image)).failure).toContain(
      '--store is needed',
    );
    writeFileSync(join(folder, 'dump'), 'no dump at all\n');
    expect((await run('build', '--from-file', join(folder, 'dump'), '--output', image)).failure).toMatch(
      /dump: line 1: /,
    );
    const { failure } = await run(
      'build',
      join(folder, 'source'),
      '--store',
      store,
      '--output',
      join(folder, 'a', 'b'),
    );
    expect(failure).toMatch(/: no such file or directory$/);
    expect(readdirSync(folder)).not.toContain('image.cfs');
  });

  test('replaces no device and no directory', async () => {
    for (const output of ['/dev/null', join(folder, 'source')]) {
      const { failure } = await run('build', join(folder, 'source'), '--store', store, '--output', output);
      expect(failure).toBe(`${output}: it exists and is no regular file`);
    }
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test('leaves out what is excluded, times and attributes that are not wanted', async () => {
    const { failure } = await build('--use-epoch', '--skip-xattrs', '--exclude', './dir//again/', 'link');
    expect(failure).toBeUndefined();
    const { stdout } = await run('dump', image);
    expect(stdout.split('\n').map((line) => line.split(' ')[0])).toEqual([
      '/',
      '/dir',
      '/dir/large',
      '/small',
      '',
    ]);
    for (const line of stdout.trimEnd().split('\n')) expect(line.split(' ')[7]).toBe('0.0');
  });

  test.each([
    [['--threads', '0'], 'A number of threads is 1 to'],
    [['--user-xattrs', '--skip-xattrs'], 'cannot be used with'],
    [['--exclude', '../elsewhere'], 'a path below the source'],
    [['--exclude', '/'], 'a path below the source'],
  ])('refuses %j', async (options, message) => {
    expect((await build(...options)).failure).toContain(message);
  });

  test('takes no options on a directory with a dump', async () => {
    const { failure } = await build('--from-file', '--use-epoch');
    expect(failure).toContain('--use-epoch does not go with --from-file');
  });

  test('refuses a store inside the source', async () => {
    const inside = join(folder, 'source', 'store');
    const { failure } = await run('build', join(folder, 'source'), '--store', inside, '--output', image);
    expect(failure).toContain('the object store may not be inside');
  });
});

describe('reading', () => {
  beforeEach(async () => {
    await build();
  });

  test('objects and missing name what the image needs', async () => {
    expect((await run('objects', image)).stdout).toBe(`${object}\n`);
    expect((await run('missing', image, '--store', store)).stdout).toBe('');
    mkdirSync(join(folder, 'other'));
    const missing = await run('missing', image, '--store', join(folder, 'other'));
    expect(missing.stdout).toBe(`${object}\n`);
    expect(missing.failure).toContain('an object is missing');
    expect((await run('missing', image, '--store', join(folder, 'other'), store)).stdout).toBe('');
    const json: unknown = JSON.parse((await run('objects', image, '--json')).stdout);
    expect(json).toEqual([{ path: object, digest: verityDigest(Buffer.from(contents)) }]);
  });

  test('ls lists every name, and where links lead', async () => {
    const { stdout } = await run('ls', image);
    const paths = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^(\S+ +){3}/, ''));
    expect(paths).toEqual(['/', '/dir', '/dir/again', '/dir/large', '/link -> dir/large', '/small']);
  });

  test('inspect counts', async () => {
    const json: unknown = JSON.parse((await run('inspect', image, '--json')).stdout);
    expect(json).toMatchObject({
      digest: verityDigest(readFileSync(image)),
      fileSystem: 'composefs',
      types: { directory: 2, file: 2, symlink: 1 },
      contentBytes: contents.length + 5,
      inlineBytes: 5,
      objects: 1,
      devices: false,
    });
    expect((await run('inspect', image)).stdout).toContain('2 directories, 2 files, 1 symbolic link');
  });

  test('dump as JSON says what the text says', async () => {
    const entries: unknown = JSON.parse((await run('dump', image, '--json')).stdout);
    expect(entries).toMatchObject([
      { path: '/', type: 'directory' },
      { path: '/dir', type: 'directory' },
      { path: '/dir/again', type: 'file', size: 5, nlink: 2, inlineBase64: 'c21hbGw=' },
      { path: '/dir/large', type: 'file', object, digest: verityDigest(Buffer.from(contents)) },
      { path: '/link', type: 'symlink', target: 'dir/large' },
      { path: '/small', hardLink: true },
    ]);
  });

  test('names that could move the cursor are written by their bytes', async () => {
    writeFileSync(join(folder, 'source', 'evil\x1b[2J\u202e'), '');
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/source/`), Buffer.from([0xff])]), '');
    await build();
    const { stdout } = await run('ls', image);
    expect(stdout).toContain('/evil\\x1b[2J\\xe2\\x80\\xae\n');
    expect(stdout).toContain('/\\xff\n');
  });

  test.each(['inspect', 'ls', 'dump', 'objects'])('%s says where an image is broken', async (command) => {
    writeFileSync(image, readFileSync(image).subarray(0, 2000));
    expect((await run(command, image)).failure).toContain(`${image}: `);
    expect((await run(command, join(folder, 'none'))).failure).toBe(
      `${folder}/none: no such file or directory`,
    );
    expect((await run(command, folder)).failure).toBe(`${folder}: not a regular file`);
  });
});

describe('digest', () => {
  test('of several files; one that is missing hides none', async () => {
    writeFileSync(join(folder, 'a'), 'a');
    writeFileSync(join(folder, 'b'), Buffer.alloc(100_000, 'b'));
    const files = [join(folder, 'a'), join(folder, 'none'), join(folder, 'b')];
    const { stdout, failure } = await run('digest', ...files);
    const [a, b] = [verityDigest(Buffer.from('a')), verityDigest(Buffer.alloc(100_000, 'b'))];
    expect(stdout).toBe(`${a}  ${folder}/a\n${b}  ${folder}/b\n`);
    expect(failure).toBe(`${folder}/none: no such file or directory`);
    const json: unknown = JSON.parse((await run('digest', '--json', ...files)).stdout);
    expect(json).toEqual([
      { file: `${folder}/a`, digest: a },
      { file: `${folder}/b`, digest: b },
    ]);
    expect((await run('digest', '--statement', `${folder}/a`)).stdout).toBe(
      `${a.replace('sha256:', 'fsverity-sha256-12:')}\n`,
    );
  });
});

describe('store', () => {
  test('add, check and gc', async () => {
    await build();
    writeFileSync(join(folder, 'extra'), 'extra');
    const { stdout } = await run('store', 'add', store, join(folder, 'extra'));
    const extra = verityDigest(Buffer.from('extra'));
    expect(stdout).toBe(`${extra}  ${folder}/extra\n`);
    expect((await run('store', 'check', store)).stdout).toContain('2 objects are sound');
    expect(
      (await run('store', 'gc', store, '--unknown-mounts', 'ignore', '--image', image, '--dry-run')).stdout,
    ).toBe(`${objectPath(extra)}\n1 would be removed, 5 bytes; 1 kept\n`);
    expect(
      (await run('store', 'gc', store, '--unknown-mounts', 'ignore', '--image', image)).stdout,
    ).toContain('1 removed, 5 bytes; 1 kept');
    expect((await run('missing', image, '--store', store)).stdout).toBe('');
    writeFileSync(join(store, object), 'tampered');
    const checked = await run('store', 'check', store);
    expect(checked.stdout).toContain(`${object}: damaged: `);
    expect(checked.failure).toBe(`${store}: one problem`);
  });

  test('gc removes nothing where an image is broken', async () => {
    await build();
    writeFileSync(join(folder, 'broken'), 'no image');
    expect(
      (await run('store', 'gc', store, '--unknown-mounts', 'ignore', '--image', join(folder, 'broken')))
        .failure,
    ).toContain('broken: ');
    expect(readdirSync(join(store, object.slice(0, 2)))).toHaveLength(1);
  });
});

describe.skipIf(needs('kernel', isRoot, 'only root can install'))('install', () => {
  const install = (...more: readonly string[]): ReturnType<typeof run> =>
    run(
      'install',
      image,
      '--from',
      store,
      '--into',
      join(folder, 'images'),
      '--store',
      join(folder, 'target'),
      ...more,
    );

  const policy = (): string => join(folder, 'policy');
  /** Signs the image with a new key, the only one that the policy knows. */
  function sign(): void {
    const signer = new Signer();
    mkdirSync(join(policy(), 'policy.d'), { recursive: true });
    mkdirSync(join(policy(), 'keys.d'), { recursive: true });
    writeFileSync(join(policy(), 'policy.d', '10.toml'), '[[keys]]\nid = "site"\nfile = "site.pub"\n');
    writeFileSync(join(policy(), 'keys.d', 'site.pub'), signer.publicPem);
    writeFileSync(`${image}.sig`, signer.sign(verityDigest(readFileSync(image)), 'example/app'));
  }

  test('copies the image, the signature and the objects', async () => {
    const { stdout: digest } = await build();
    sign();
    expect(await install()).toEqual({
      stdout: `${digest.trim()}  ${folder}/images/image.cfs\n`,
      stderr: '',
      failure: undefined,
    });
    expect(readdirSync(join(folder, 'images')).sort()).toEqual(['image.cfs', 'image.cfs.sig']);
    expect(readFileSync(join(folder, 'images', 'image.cfs')).equals(readFileSync(image))).toBe(true);
    expect((await run('missing', image, '--store', join(folder, 'target'))).stdout).toBe('');
    expect((await install()).failure).toBeUndefined();
  });

  test.each(['image', 'image.img', 'my image.cfs', '.cfs'])(
    'says that the service finds no image of this name: %s',
    async (name) => {
      await build();
      const other = join(folder, name);
      renameSync(image, other);
      const target = ['--into', join(folder, 'images'), '--store', join(folder, 'target')];
      const { stderr, failure } = await run('install', other, '--from', store, ...target);
      expect(stderr).toContain(`${name}: the service finds no image of this name`);
      expect(failure).toBeUndefined();
    },
  );

  test('says that there is no signature, and leaves none of an older image', async () => {
    await build();
    mkdirSync(join(folder, 'images'));
    writeFileSync(join(folder, 'images', 'image.cfs'), 'older');
    writeFileSync(join(folder, 'images', 'image.cfs.sig'), 'of the older one');
    expect((await install()).stderr).toContain('image.cfs.sig is not there');
    expect(readdirSync(join(folder, 'images'))).toEqual(['image.cfs']);
    expect(readFileSync(join(folder, 'images', 'image.cfs')).equals(readFileSync(image))).toBe(true);
  });

  test('takes a signature by a key of the policy, and no other', async () => {
    await build();
    sign();
    const mine = readFileSync(join(policy(), 'keys.d', 'site.pub'));
    writeFileSync(join(policy(), 'keys.d', 'site.pub'), new Signer().publicPem);
    const refused = await install('--policy', policy());
    expect(refused.failure).toMatch(/image\.cfs\.sig: no key of the policy made this signature \(signed by /);
    expect(readdirSync(folder)).not.toContain('images');
    expect(readdirSync(join(folder, 'target'))).toEqual([]);
    expect((await install('--policy', policy(), '--no-verify')).failure).toBeUndefined();
    writeFileSync(join(policy(), 'keys.d', 'site.pub'), mine);
    expect(await install('--policy', policy())).toMatchObject({ stderr: '', failure: undefined });
  });

  test('takes no signature of another image, whoever made it', async () => {
    await build();
    sign();
    const other = readFileSync(`${image}.sig`);
    writeFileSync(join(folder, 'source', 'small'), 'changed');
    await build();
    for (const [file, reason] of [
      [other, /no signature of this image: .*it is about the image sha256:/],
      [Buffer.from('nothing'), /no signature of this image: /],
    ] as const) {
      writeFileSync(`${image}.sig`, file);
      expect((await install()).failure).toMatch(reason);
      expect(readdirSync(folder)).not.toContain('images');
    }
  });

  test('an image of a filesystem that needs no objects is copied alone, and its signature checked first', async () => {
    const other = join(folder, 'disk.squashfs');
    const bytes = Buffer.concat([Buffer.from('hsqs'), randomBytes(3 << 20)]);
    writeFileSync(other, bytes);
    writeFileSync(`${other}.sig`, new Signer().sign(verityDigest(Buffer.from('another')), 'example/disk'));
    const into = join(folder, 'images');
    const whole = (): ReturnType<typeof run> => run('install', other, '--into', into);
    expect((await whole()).failure).toContain('no signature of this image');
    expect(readdirSync(folder)).not.toContain('images');
    const signature = new Signer().sign(verityDigest(bytes), 'example/disk', { fileSystem: 'squashfs' });
    writeFileSync(`${other}.sig`, signature);
    expect(await whole()).toEqual({
      stdout: `${verityDigest(bytes)}  ${into}/disk.squashfs\n`,
      stderr: '',
      failure: undefined,
    });
    expect(readFileSync(join(into, 'disk.squashfs')).equals(bytes)).toBe(true);
    expect(readFileSync(join(into, 'disk.squashfs.sig')).equals(signature)).toBe(true);
    expect(statSync(join(into, 'disk.squashfs')).mode & 0o777).toBe(0o644);
    await build();
    expect((await run('install', image, '--into', into)).failure).toContain('--from and --store are wanted');
  });

  test('puts nothing in place where something is in the way', async () => {
    await build();
    sign();
    mkdirSync(join(folder, 'images', 'image.cfs'), { recursive: true });
    expect((await install()).failure).toContain('images/image.cfs: a directory is in the way');
    expect(readdirSync(join(folder, 'images'))).toEqual(['image.cfs']);
    expect(readdirSync(join(folder, 'target'))).toEqual([]);
  });

  test('installs no image whose objects are missing or damaged, here or there', async () => {
    await build();
    writeFileSync(join(store, object), 'tampered');
    expect((await install()).failure).toContain('the contents have the digest');
    rmSync(join(store, object));
    expect((await install()).failure).toBe(`${image}: an object is in neither store: /dir/large (${object})`);
    mkdirSync(join(folder, 'target', object.slice(0, 2)), { recursive: true });
    writeFileSync(join(folder, 'target', object), 'tampered');
    expect((await install()).failure).toContain('damaged');
    expect(readdirSync(folder)).not.toContain('images');
  });

  test.each(['../secret', 'objects/secret'])(
    'installs nothing that the digest does not name: %s',
    async (path) => {
      const dump = `/ 4096 40755 2 0 0 0 0.0 - - -\n/file 100 100644 1 0 0 0 0.0 ${path} - -\n`;
      writeFileSync(join(folder, 'dump'), dump);
      mkdirSync(store);
      await run('build', '--from-file', join(folder, 'dump'), '--output', image);
      expect((await install()).failure).toMatch(/is no object of a store|is not named by its digest/);
      expect(readdirSync(folder)).not.toContain('images');
    },
  );
});
