import { describe, expect, test } from 'vitest';
import { parseMountArguments } from '../../../src/cli/mount-arguments.ts';

const plain = {
  kind: 'mount',
  image: 'a.cfs',
  directory: '/mnt',
  options: [],
  sloppy: false,
  fake: false,
  verbose: false,
  namespace: undefined,
  type: undefined,
};

describe('the arguments of a mount(8) helper', () => {
  test('an image and a directory', () => {
    expect(parseMountArguments(['a.cfs', '/mnt'])).toEqual(plain);
  });

  test('as mount(8) passes them', () => {
    expect(
      parseMountArguments([
        'a.cfs',
        '/mnt',
        '-sfnv',
        '-N',
        '/proc/1/ns/mnt',
        '-o',
        'rw,ro',
        '-t',
        'cfs-delegated.erofs',
      ]),
    ).toEqual({
      ...plain,
      sloppy: true,
      fake: true,
      verbose: true,
      namespace: '/proc/1/ns/mnt',
      options: ['rw,ro'],
      type: 'erofs',
    });
  });

  test('values joined to their letters, options before operands, -o twice', () => {
    expect(parseMountArguments(['-vorw', '-oro', '-N12', '-tcfs-delegated', '--', 'a.cfs', '/mnt'])).toEqual({
      ...plain,
      verbose: true,
      options: ['rw', 'ro'],
      namespace: '12',
    });
  });

  test('help and version', () => {
    expect(parseMountArguments(['--help'])).toEqual({ kind: 'help' });
    expect(parseMountArguments(['a.cfs', '-V'])).toEqual({ kind: 'version' });
  });

  test.each([
    [[], 'IMAGE and DIR are needed; try --help'],
    [['a.cfs'], 'IMAGE and DIR are needed; try --help'],
    [['a.cfs', '/mnt', 'x'], '"x" is one argument too many; try --help'],
    [['a.cfs', '/mnt', '-o'], '-o needs a value; try --help'],
    [['a.cfs', '/mnt', '-x'], 'unknown option "-x"; try --help'],
    [['a.cfs', '/mnt', '--verbose'], 'unknown option "--verbose"; try --help'],
  ])('%j', (words, message) => {
    expect(() => parseMountArguments(words)).toThrow(expect.objectContaining({ message, exitCode: 1 }));
  });
});
