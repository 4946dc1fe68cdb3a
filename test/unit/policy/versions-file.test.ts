import { describe, expect, test } from 'vitest';
import { formatVersionsFile, parseVersionsFile } from '../../../src/policy/versions-file.ts';

const entries = [
  { rule: 'distro "images"', name: 'registry.example.org/distro/base:1', version: 0 },
  { rule: 'site', name: 'a', version: 2 ** 53 - 1 },
];
const good = '{"rule":"r","name":"n","version":1}\n';

describe('the file of newest versions', () => {
  test('what is written is read, sorted', () => {
    const bytes = formatVersionsFile([...entries].reverse());
    expect(parseVersionsFile(bytes)).toEqual(entries);
    expect(formatVersionsFile(entries)).toEqual(bytes);
    expect(parseVersionsFile(new Uint8Array())).toEqual([]);
  });

  test.each([
    ['cut off', good.slice(0, -1), 1, 'no newline'],
    ['an empty line', `${good}\n`, 2, 'not JSON'],
    ['the same twice', good + good.replace('1', '2'), 2, 'a second time'],
    ['not an object', '[]\n', 1, 'not an object'],
    ['an unknown member', '{"rule":"r","name":"n","version":1,"x":1}\n', 1, '"x" is not known'],
    ['a member twice', '{"rule":"r","rule":"r","name":"n","version":1}\n', 1, 'twice'],
    ['no rule', '{"name":"n","version":1}\n', 1, 'rule is not'],
    ['a name that is none', '{"rule":"r","name":"a/../b","version":1}\n', 1, 'name is not'],
    ['a negative version', '{"rule":"r","name":"n","version":-1}\n', 1, 'version is not'],
    [
      'a version beyond 2^53 - 1',
      '{"rule":"r","name":"n","version":9007199254740992}\n',
      1,
      'version is not',
    ],
    ['bytes that are no UTF-8', '{"rule":"\u00ff","name":"n","version":1}\n', 1, 'not UTF-8'],
  ])('%s', (_, text, line, reason) => {
    expect(() => parseVersionsFile(Buffer.from(text, 'latin1'))).toThrow(
      expect.objectContaining({ line, reason: expect.stringContaining(reason) as string }),
    );
  });
});
