import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import * as file from '../../../src/sys/file.ts';
import { openFile } from '../../../src/sys/file.ts';
import { getXattr, listXattrs } from '../../../src/sys/xattr.ts';
import { measureVerity } from '../../../src/sys/verity.ts';

let root = '';
let directory = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'cfs-file-'));
  // Who breaks a lease sends it.
  process.on('SIGIO', () => undefined);
});
afterAll(() => {
  rmSync(root, { recursive: true });
});
let count = 0;
beforeEach(() => {
  directory = join(root, String(count++));
  mkdirSync(directory);
});

function refused(code: string): unknown {
  return expect.objectContaining({ name: 'SyscallError', code }) as unknown;
}

describe('opening', () => {
  test('text and byte paths, and what is missing', () => {
    const name = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0xfe])]);
    writeFileSync(name, 'x');
    using opened = openFile(name);
    expect(file.fstat(opened.number).size).toBe(1n);
    expect(() => openFile(join(directory, 'missing'))).toThrow(refused('ENOENT'));
    expect(() => openFile('a\0b')).toThrow(TypeError);
  });

  test('how a descriptor was opened is known', () => {
    const path = join(directory, 'f');
    using written = openFile(path, { access: 'read-write', createMode: 0o600 });
    using read = openFile(path);
    using place = openFile(path, { pathOnly: true });
    expect(file.getFlags(written.number)).toEqual({ access: 'read-write', pathOnly: false });
    expect(file.getFlags(read.number)).toEqual({ access: 'read', pathOnly: false });
    expect(file.getFlags(place.number)).toMatchObject({ pathOnly: true });
    expect(() => openFile(path, { createMode: 0o600 })).toThrow(refused('EEXIST'));
    expect(() => openFile(path, { directory: true })).toThrow(refused('ENOTDIR'));
  });

  test('nothing leaves the directory that it is looked up beneath', () => {
    const inside = join(directory, 'inside');
    mkdirSync(join(inside, 'deep'), { recursive: true });
    writeFileSync(join(inside, 'deep', 'f'), '');
    symlinkSync('deep/f', join(inside, 'link'));
    symlinkSync('../..', join(inside, 'out'));
    symlinkSync('/etc', join(inside, 'absolute'));
    using folder = openFile(inside, { directory: true });
    file.openBeneath(folder.number, 'deep/f').close();
    file.openBeneath(folder.number, 'deep/../deep/f').close();
    file.openBeneath(folder.number, 'link', { followSymlinks: true }).close();
    expect(() => file.openBeneath(folder.number, 'link')).toThrow(refused('ELOOP'));
    expect(() => file.openBeneath(folder.number, '..')).toThrow(refused('EXDEV'));
    expect(() => file.openBeneath(folder.number, '/etc')).toThrow(refused('EXDEV'));
    expect(() => file.openBeneath(folder.number, 'out/x', { followSymlinks: true })).toThrow(
      refused('EXDEV'),
    );
    expect(() => file.openBeneath(folder.number, 'absolute', { followSymlinks: true })).toThrow(
      refused('EXDEV'),
    );
    expect(() => file.openBeneath(folder.number, 'missing')).toThrow(refused('ENOENT'));
  });
});

describe('memfds', () => {
  test('are sealed, and then cannot be written', () => {
    using memory = file.createMemfd('test');
    file.writeAll(memory.number, Buffer.from('content'));
    expect(file.getSeals(memory.number)).toEqual(new Set());
    file.addSeals(memory.number, ['write', 'shrink', 'grow', 'seal']);
    expect(file.getSeals(memory.number)).toEqual(new Set(['seal', 'shrink', 'grow', 'write']));
    expect(() => {
      file.writeAll(memory.number, Buffer.from('x'));
    }).toThrow(refused('EPERM'));
    using again = file.reopen(memory.number);
    expect(readFileSync(again.number, 'utf8')).toBe('content');
  });

  test('only memfds have seals', () => {
    const path = join(directory, 'f');
    writeFileSync(path, '');
    using plain = openFile(path);
    expect(file.getSeals(plain.number)).toBeUndefined();
  });
});

describe('contents', () => {
  test('what is shown on the way is what was copied', () => {
    const bytes = Buffer.alloc(2 * 1024 * 1024 + 17, 'pattern');
    using from = file.createMemfd('from');
    file.writeAll(from.number, bytes);
    using to = file.openTmpfile(directory);
    const hash = createHash('sha256');
    const copied = file.copyContent(from.number, to.number, {
      bytesMax: bytes.length,
      onChunk: (chunk) => hash.update(chunk),
    });
    expect(copied).toBe(bytes.length);
    const found = Buffer.alloc(bytes.length + 5);
    expect(file.pread(to.number, found, 0)).toBe(bytes.length);
    expect(found.subarray(0, copied).equals(bytes)).toBe(true);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(() => file.copyContent(from.number, to.number, { bytesMax: bytes.length - 1 })).toThrow(
      refused('EFBIG'),
    );
  });

  test('a file without a name gets one, once', () => {
    using temporary = file.openTmpfile(directory, 0o644);
    file.writeAll(temporary.number, Buffer.from('named'));
    const path = join(directory, 'named');
    expect(file.linkTmpfile(temporary.number, path)).toBe(true);
    expect(readFileSync(path, 'utf8')).toBe('named');
    expect(file.linkTmpfile(temporary.number, path)).toBe(false);
    expect(existsSync(path)).toBe(true);
  });
});

describe('leases', () => {
  test('a read lease is granted when nobody writes', () => {
    const path = join(directory, 'f');
    writeFileSync(path, 'x');
    using writer = openFile(path, { access: 'write' });
    using reader = openFile(path);
    expect(file.readLease(reader.number)).toBe(false);
    writer.close();
    expect(file.readLease(reader.number)).toBe(true);
    expect(() => openFile(path, { access: 'write', nonBlocking: true })).toThrow(refused('EAGAIN'));
    reader.close();
    openFile(path, { access: 'write', nonBlocking: true }).close();
  });
});

test('extended attributes of byte paths, links not followed', () => {
  const path = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0x80])]);
  writeFileSync(path, '');
  expect(listXattrs(path)).toEqual([]);
  expect(getXattr(path, Buffer.from('user.none'))).toBeUndefined();
  symlinkSync('nowhere', join(directory, 'link'));
  expect(listXattrs(Buffer.from(join(directory, 'link')))).toEqual([]);
  expect(() => listXattrs(Buffer.from(join(directory, 'missing')))).toThrow(refused('ENOENT'));
});

test('a file without fs-verity has no digest', () => {
  const path = join(directory, 'f');
  writeFileSync(path, 'x');
  using opened = openFile(path);
  expect(measureVerity(opened.number)).toBeUndefined();
});

test('a duplicate is the same open file, close-on-exec', () => {
  const path = join(directory, 'f');
  writeFileSync(path, 'x');
  using opened = openFile(path);
  using copy = file.duplicate(opened.number);
  expect(file.fstat(copy.number).ino).toBe(file.fstat(opened.number).ino);
  chmodSync(path, 0o600);
  renameSync(path, `${path}2`);
  expect(file.fstat(copy.number).mode & 0o777n).toBe(0o600n);
  using magic = openFile('/proc', { directory: true });
  expect(file.fileSystemMagic(magic.number)).toBe(0x9fa0);
});
