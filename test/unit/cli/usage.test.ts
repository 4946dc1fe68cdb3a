import { expect, test } from 'vitest';
import { collect, usageError } from '../../../src/cli/usage.ts';

test('what is wrong with a command line takes one line', () => {
  expect(usageError('cfs-mountctl', "error: unknown option '--stroe'\n(Did you mean --store?)\n")).toBe(
    "cfs-mountctl: unknown option '--stroe' (did you mean --store?)\n",
  );
});

test('values of a repeated option are kept in order', () => {
  expect(collect('b', collect('a', undefined))).toEqual(['a', 'b']);
});
