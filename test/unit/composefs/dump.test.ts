import { describe, expect, test } from 'vitest';
import { parseDump } from '../../../src/composefs/dump.ts';
import { formatDump } from '../../support/format-dump.ts';
import { dumpImage } from '../../../src/composefs/dump-image.ts';
import { escapeText, unescapeText } from '../../../src/composefs/dump-text.ts';
import { DumpError } from '../../../src/composefs/errors.ts';
import { imageOf, objectOf, treeOf } from '../../support/trees.ts';

const root = '/ 4096 40755 2 0 0 0 0.0 - - -';

function parseLines(...lines: readonly string[]): unknown {
  return parseDump(Buffer.from(lines.join('\n'), 'latin1'));
}

describe('escapes', () => {
  test('of a path', () => {
    expect(escapeText('a b\\c\nd\re\tf\x00g\xffh=-')).toBe('a\\x20b\\\\c\\nd\\re\\tf\\x00g\\xffh=-');
  });
  test('of an image’s fields: "=" in attributes, and a field that is just "-"', () => {
    const lines = [
      '/a=b 1 100644 1 0 0 0 0.0 - \\x2d - user.a\\x3db=c\\x3dd',
      '/l 2 120777 1 0 0 0 0.0 -- - -',
    ];
    const [, ...dumped] = Buffer.from(dumpImage(imageOf(...lines)))
      .toString()
      .trimEnd()
      .split('\n');
    expect(dumped).toEqual(lines);
  });
  test('of a dump that nests its paths too deep: there is a limit of its size', () => {
    const deep = Array.from(
      { length: 100 },
      (_, depth) => `${'/d'.repeat(depth + 1)} 0 40755 2 0 0 0 0.0 - - -`,
    );
    const image = imageOf(...deep);
    expect(dumpImage(image).length).toBeGreaterThan(10_000);
    expect(() => dumpImage(image, 10_000)).toThrow('the dump would have more than 10000 bytes');
  });
  test('of a file with attributes that do not show, and many names: reading them again has a limit', () => {
    const { path, hex } = objectOf('ab');
    const links = Array.from({ length: 200 }, (_, index) => `/b${index} 0 @100644 201 0 0 0 0.0 /a - -`);
    const image = imageOf(`/a 1000 100644 201 0 0 0 0.0 ${path} - ${hex}`, ...links);
    expect(dumpImage(image).length).toBeLessThan(25_000);
    expect(() => dumpImage(image, 25_000)).toThrow(/too many names/);
  });
  test('are undone', () => {
    const every = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join('');
    expect(unescapeText(escapeText(every))).toBe(every);
    expect(unescapeText('\\xAB\\xab')).toBe('\xab\xab');
  });
  test.each(['\\', 'a\\', '\\q', '\\x', '\\x1', '\\xg0', '\\\\\\'])('%j is refused', (text) => {
    expect(unescapeText(text)).toBeUndefined();
  });
});

describe('a line that is wrong is refused with its number and the reason', () => {
  test.each([
    [['/a 0 100644 1 0 0 0 0.0 - - -'], 1, 'no line before gives the directory of /a'],
    [[root, root], 2, 'there is a second root'],
    [['/ 0 100644 1 0 0 0 0.0 - - -'], 1, 'the root is not a directory'],
    [[root, '/a'], 2, 'the field MODE is missing'],
    [[root, '/a 0 100644 1 0 0 0 0.0 - -'], 2, 'the field DIGEST is missing'],
    [[root, 'a 0 100644 1 0 0 0 0.0 - - -'], 2, 'the path is not absolute'],
    [[root, '/a\\q 0 100644 1 0 0 0 0.0 - - -'], 2, 'the field PATH has an invalid escape'],
    [[root, '/.. 4096 40755 1 0 0 0 0.0 - - -'], 2, 'a name must not be ".."'],
    [[root, `/${'n'.repeat(256)} 0 100644 1 0 0 0 0.0 - - -`], 2, 'a name must not have more than 255 bytes'],
    [[root, '/a\\x00b 0 100644 1 0 0 0 0.0 - - -'], 2, 'a name must not hold "/" or a zero byte'],
    [[root, '/a\0b 0 100644 1 0 0 0 0.0 - - -'], 2, 'a zero byte stands in the line'],
    [[root, '/a 0 0100689 1 0 0 0 0.0 - - -'], 2, 'the field MODE is not an octal number'],
    [[root, '/a 0 1100644 1 0 0 0 0.0 - - -'], 2, 'the field MODE has bits that no mode has'],
    [[root, '/a x 100644 1 0 0 0 0.0 - - -'], 2, 'the field SIZE is not a number: "x"'],
    [[root, '/a -1 100644 1 0 0 0 0.0 - - -'], 2, 'the field SIZE is not a number: "-1"'],
    [[root, '/a 0 100644 1 4294967296 0 0 0.0 - - -'], 2, 'the field UID is above 4294967295'],
    [[root, '/a 0 100644 1 0 0 0 0 - - -'], 2, 'the field MTIME is not seconds and nanoseconds'],
    [
      [root, '/a 0 100644 1 0 0 0 9999999999999999999.0 - - -'],
      2,
      'the field MTIME does not fit into 64 bits',
    ],
    [[root, '/a 3 100644 1 0 0 0 0.0 - ab -'], 2, 'there are 2 bytes of content for a size of 3'],
    [[root, '/a 1 100644 1 0 0 0 0.0 - - abc'], 2, 'the field DIGEST is not 64 hexadecimal digits'],
    [
      [root, `/a 5001 100644 1 0 0 0 0.0 - ${'c'.repeat(5001)} -`],
      2,
      'content in the image must not have more than 5000 bytes',
    ],
    [[root, '/a 1 120777 1 0 0 0 0.0 - - -'], 2, 'the target of a symbolic link must not be empty'],
    [[root, '/a 0 20644 1 0 0 4294967296 0.0 - - -'], 2, 'the field RDEV does not fit into 32 bits'],
    [[root, '/a 0 100644 1 0 0 0 0.0 - - - user.a'], 2, 'an extended attribute has no "="'],
    [
      [root, '/a 0 100644 1 0 0 0 0.0 - - - =1'],
      2,
      'the name of an extended attribute must have 1 to 255 bytes',
    ],
    [
      [root, `/a 0 100644 1 0 0 0 0.0 - - - user.a=${'v'.repeat(32760)}`],
      2,
      'the extended attributes of an inode must not have more than 32767 bytes together',
    ],
    [[root, '/a 0 100644 1 0 0 0 0.0 - - -', '/a 0 100644 1 0 0 0 0.0 - - -'], 3, '/a is given twice'],
    [[root, '/a 0 @100644 1 0 0 0 0.0 /b - -'], 2, "no line gives the hard link's target /b"],
    [[root, '/a 0 @100644 1 0 0 0 0.0 - - -'], 2, 'the hard link has no target'],
    [[root, '/a 0 @100644 1 0 0 0 0.0 / - -'], 2, 'a directory cannot be a hard link'],
    [[root, '/a 0 @100644 1 0 0 0 0.0 /a - -'], 2, "no line gives the hard link's target /a"],
    [[''], 0, 'there is no line'],
  ] as const)('case %#', (lines, line, reason) => {
    expect(() => parseLines(...lines)).toThrow(new DumpError(line, reason));
  });
});

test('a hard link may come before its target and may name another link; the first path keeps the inode', () => {
  const tree = treeOf(
    '/a 1 @100644 1 0 0 0 0.0 /b - -',
    '/b 1 @100644 1 0 0 0 0.0 /d/c - -',
    '/d 0 40755 2 0 0 0 0.0 - - -',
    '/d/c 1 100644 3 7 8 0 5.6 - x - user.u=v',
  );
  expect(Buffer.from(formatDump(tree)).toString()).toBe(
    [
      '/ 4096 40755 3 0 0 0 0.0 - - -',
      '/a 1 100644 3 7 8 0 5.6 - x - user.u=v',
      '/b 1 @100644 3 7 8 0 5.6 /a x - user.u=v',
      '/d 40 40755 2 0 0 0 0.0 - - -',
      '/d/c 1 @100644 3 7 8 0 5.6 /a x - user.u=v',
      '',
    ].join('\n'),
  );
});

test('names that are not UTF-8, times before 1970 and every type come out as they went in', () => {
  const lines = [
    '/block 0 60600 1 0 0 1793 0.0 - - -',
    '/character 0 20600 1 0 0 259 0.0 - - -',
    '/d 27 41777 2 4294967295 4294967295 0 0.0 - - -',
    '/dash 1 100644 1 0 0 0 0.0 - \\x2d -',
    '/fifo 0 10644 1 0 0 0 0.0 - - -',
    `/file 9007199254740992 104755 1 0 0 0 0.0 a\\x20b - ${'ab'.repeat(32)}`,
    '/link 1 120777 1 0 0 0 0.0 \\x2d - - security.selinux=a\\x3db\\x00',
    '/socket 0 140644 1 0 0 0 0.0 - - -',
    '/\\xff\\xfe 0 100644 1 0 0 0 -5.999999999 - - -',
  ];
  const text = ['/ 4096 40755 3 0 0 0 0.0 - - -', ...lines, ''].join('\n');
  expect(Buffer.from(formatDump(parseDump(Buffer.from(text)))).toString()).toBe(text);
});
