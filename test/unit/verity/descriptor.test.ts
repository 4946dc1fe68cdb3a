import { describe, expect, test } from 'vitest';
import { foreignForm, parseVerityDescriptor } from '../../../src/verity/descriptor.ts';

/** A descriptor as in "fs-verity descriptor", Documentation/filesystems/fsverity.rst of Linux. */
function descriptor(
  fields: Partial<Record<'version' | 'algorithm' | 'logBlockBytes' | 'saltBytes', number>>,
): Buffer {
  const bytes = Buffer.alloc(256);
  bytes.set([fields.version ?? 1, fields.algorithm ?? 1, fields.logBlockBytes ?? 12, fields.saltBytes ?? 0]);
  return bytes;
}

describe('the form of a fs-verity digest', () => {
  test.each([
    [{}, undefined],
    [{ algorithm: 2 }, 'SHA-512 instead of SHA-256'],
    [{ algorithm: 9 }, 'hash algorithm 9 instead of SHA-256'],
    [{ logBlockBytes: 16 }, 'blocks of 65536 bytes instead of 4096'],
    [{ logBlockBytes: 10 }, 'blocks of 1024 bytes instead of 4096'],
    [{ saltBytes: 32 }, 'a salt'],
    [
      { algorithm: 2, logBlockBytes: 16, saltBytes: 8 },
      'SHA-512 instead of SHA-256 and blocks of 65536 bytes instead of 4096 and a salt',
    ],
  ])('%j: %s', (fields, foreign) => {
    const form = parseVerityDescriptor(descriptor(fields));
    if (form === undefined) throw new Error('it is a descriptor');
    expect(foreignForm(form)).toBe(foreign);
  });

  test.each([
    ['another version', descriptor({ version: 2 })],
    ['a salt that has no room', descriptor({ saltBytes: 33 })],
    ['blocks that are longer than any page', descriptor({ logBlockBytes: 31 })],
    ['a part of a descriptor', descriptor({}).subarray(0, 255)],
    ['nothing', new Uint8Array()],
  ])('%s is no descriptor', (_what, bytes) => {
    expect(parseVerityDescriptor(bytes)).toBeUndefined();
  });
});
