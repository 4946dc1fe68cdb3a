import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BadFileDescriptor, connect, ObjectRefused, uploadObjects } from '../../src/client/client.ts';
import { findObjects } from '../../src/cli/find-objects.ts';
import { digestOf } from '../support/hosting.ts';
import { isRoot, needs } from '../support/needs.ts';
import { AddingRoom, contentOf, imageOf, type Content } from './adding-room.ts';

/** What a program did. */
interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe.skipIf(needs('kernel', isRoot, 'only root can run the service'))('add-objects', () => {
  let room: AddingRoom;
  let users = 0;

  beforeAll(async () => {
    room = await AddingRoom.open('adding-command');
  });
  afterAll(async () => {
    await room.close();
  });

  /** Runs a shell script as user 1000, in the room's folder, with cfs-mountctl on PATH and `$here` for its socket. */
  function asUser(script: string): Promise<Ran> {
    const folder = join(room.place.folder, `user${users++}`);
    mkdirSync(folder);
    const program = resolve(import.meta.dirname, '../support/as-user.sh');
    const words = [folder, process.execPath, 'sh', '-c', `cd "$CFS_FOLDER"\n${script}`];
    const [cfsFolder, cfsSocket] = [room.place.folder, room.host.socketPath];
    const child = spawn(
      program,
      [...words.slice(0, 2), 'env', `CFS_FOLDER=${cfsFolder}`, ...words.slice(2)],
      {
        env: { ...process.env, CFS_SOCKET: cfsSocket },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => (output[stream] += chunk.toString()));
    }
    return new Promise((done, fail) => {
      child.once('error', fail);
      child.once('close', (code) => {
        done({ code, ...output });
      });
    });
  }

  /** Writes an image with its signature, and its files by their names in a tree or in a store. */
  function prepare(
    name: string,
    contents: Readonly<Record<string, Content>>,
    layout: 'tree' | 'store',
    left: readonly string[] = [],
  ): void {
    const image = imageOf(contents);
    writeFileSync(join(room.place.folder, `${name}.cfs`), image);
    const signature = room.signer.sign(digestOf(image), 'example/app');
    writeFileSync(join(room.place.folder, `${name}.cfs.sig`), signature);
    mkdirSync(join(room.place.folder, name), { recursive: true });
    for (const [file, { bytes, path }] of Object.entries(contents)) {
      if (left.includes(file)) continue;
      const target = join(room.place.folder, name, layout === 'store' ? path : `deep/down/${file}.renamed`);
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, bytes);
    }
  }

  const three = (name: string): Record<string, Content> => ({
    a: contentOf(`${name} a`),
    b: contentOf(`${name} b`, 2_000_000),
    c: contentOf(`${name} c`, 300),
  });

  test.each(['tree', 'store'] as const)('adds from a %s, and the image mounts', async (layout) => {
    const contents = three(layout);
    prepare(`from-${layout}`, contents, layout);
    const ran = await asUser(`
cfs-mountctl add-objects from-${layout}.cfs --from from-${layout} --socket "$CFS_SOCKET"; echo $?
cfs-mountctl add-objects from-${layout}.cfs --from from-${layout} --socket "$CFS_SOCKET"; echo $?
mkdir -p "$HOME/mnt"
unshare --user --map-root-user --mount sh -ec '
  mount -t cfs-delegated -o "socket=$CFS_SOCKET" from-${layout}.cfs "$HOME/mnt"
  wc -c <"$HOME/mnt/b"'
`);
    expect(ran).toEqual({
      code: 0,
      stdout: `3 files, 1.9 MiB, added to the store "site"\n0\nthe store "site" has every file of the image already\n0\n2000000\n`,
      stderr: '',
    });
  });

  test('prints JSON, and says what is not there', async () => {
    const contents = three('partial');
    prepare('partial', contents, 'tree', ['a']);
    const ran = await asUser(
      'cfs-mountctl add-objects partial.cfs --from partial --store site --json --quiet --socket "$CFS_SOCKET"; echo $? >&2',
    );
    expect(JSON.parse(ran.stdout)).toMatchObject({
      image: 'partial.cfs',
      rule: 'adders',
      store: 'site',
      added: { files: 2, bytes: 2_000_300 },
      missing: [contents['a']?.path],
    });
    expect(ran.stderr).toBe(
      `cfs-mountctl: partial: 1 of the image’s files are not there (${contents['a']?.path ?? ''})\n1\n`,
    );
  });

  test('one line says why not: no service, no right, a file that is another, no such folder', async () => {
    const contents = three('wrong');
    prepare('wrong', contents, 'store');
    writeFileSync(join(room.place.folder, 'wrong', contents['a']?.path ?? ''), contentOf('else').bytes);
    const ran = await asUser(`
add() { cfs-mountctl add-objects "$@" 2>&1; echo $?; }
add wrong.cfs --from wrong --socket "$HOME/none"
add wrong.cfs --from wrong --socket "$CFS_SOCKET" --store other
add wrong.cfs --from wrong --socket "$CFS_SOCKET"
add wrong.cfs --from nowhere --socket "$CFS_SOCKET"
add nothing.cfs --from wrong --socket "$CFS_SOCKET"
add name:none --from wrong --socket "$CFS_SOCKET"
add wrong.cfs --socket "$CFS_SOCKET"
`);
    const lines = ran.stdout.trim().split('\n');
    const expected = [
      /^cfs-mountctl: .*none.*/,
      /^cfs-mountctl: wrong\.cfs: DeniedByPolicy: rule "adders": add-objects: .*not to "other"/,
      /^cfs-mountctl: wrong\/[0-9a-f/]+: the image has no file with this content \(sha256:/,
      /^cfs-mountctl: nowhere: no such file or directory$/,
      /^cfs-mountctl: nothing\.cfs: no such file or directory$/,
      /^cfs-mountctl: name:none: ImageNotFound: /,
      /^cfs-mountctl: required option '--from <DIR>' not specified$/,
    ];
    expect(lines.filter((line) => line === '1')).toHaveLength(expected.length);
    lines
      .filter((line) => line !== '1')
      .forEach((line, index) => {
        expect(line).toMatch(expected[index] ?? /$^/);
      });
  });

  test('the library uploads many files in few calls, and shows the image once', async () => {
    const contents = Object.fromEntries(
      Array.from({ length: 600 }, (_, index) => [`f${index}`, contentOf(`library ${index}`, 100 + index)]),
    );
    prepare('library', contents, 'store');
    using service = await connect(room.host.socketPath);
    const audited = room.host.audit.length;
    const progress: number[] = [];
    const uploaded = await uploadObjects(service, {
      image: { path: join(room.place.folder, 'library.cfs') },
      find: (objects) =>
        findObjects(objects, {
          directory: join(room.place.folder, 'library'),
          sizes: undefined,
          onProgress: () => undefined,
        }),
      onProgress: (done, all) => progress.push(done.files / all.files),
    });
    expect(uploaded).toMatchObject({ store: 'site', added: { files: 600 }, missing: [] });
    expect(progress).toEqual([252 / 600, 504 / 600, 1]);
    await room.host.until('the calls are audited', () => room.host.audit.length === audited + 4);
  });

  test('the library names the file that was refused, and leaves no descriptor behind', async () => {
    const contents = { a: contentOf('bad a'), b: contentOf('bad b') };
    prepare('bad', contents, 'store');
    writeFileSync(join(room.place.folder, 'bad', contents.b.path), contentOf('bad c').bytes);
    using service = await connect(room.host.socketPath);
    const image = { path: join(room.place.folder, 'bad.cfs') };
    const search = {
      directory: join(room.place.folder, 'bad'),
      sizes: undefined,
      onProgress: () => undefined,
    };
    const open = (): number => readdirSync('/proc/self/fd').length;
    const upload = (): Promise<unknown> =>
      uploadObjects(service, { image, find: (objects) => findObjects(objects, search) }).catch(
        (error: unknown) => error,
      );
    const refused = await upload();
    expect(refused).toBeInstanceOf(ObjectRefused);
    expect(refused).toMatchObject({
      path: join(search.directory, contents.b.path),
      cause: expect.any(BadFileDescriptor) as unknown,
    });
    const before = open();
    for (let round = 0; round < 3; round++) await upload();
    expect(open()).toBe(before);
    await expect(service.addObjects({ image, objects: ['/nowhere'] })).rejects.toMatchObject({
      code: 'ENOENT',
    });
    await expect(service.addObjects({ image, missingMost: -1 })).rejects.toThrow(TypeError);
    expect(open()).toBe(before);
  });
});
