import { describe, expect, test } from 'vitest';
import type { MountParameters } from '../../../src/api/mount-delegation.ts';
import { limits } from '../../../src/daemon/callers/limits.ts';
import { parseMountRequest, parseVerifyRequest } from '../../../src/daemon/calls/request.ts';
import { InvalidParameter } from '../../../src/varlink/service.ts';

const digest = `sha256:${'ab'.repeat(32)}`;
const fds = [10, 11, 12];

/** The field that InvalidParameter names for these parameters. */
function faultOf(parameters: MountParameters): unknown {
  try {
    parseMountRequest(parameters, fds);
  } catch (error) {
    if (error instanceof InvalidParameter) return error.parameters.parameter;
    throw error;
  }
  return undefined;
}

describe('a request', () => {
  test('of the fewest parameters has every default', () => {
    expect(parseMountRequest({ image: { name: 'distro/base' } }, [])).toEqual({
      image: { kind: 'name', name: 'distro/base' },
      fileSystem: undefined,
      digest: undefined,
      signatures: [],
      allowUnsigned: false,
      stores: { names: [], directories: [] },
      verity: undefined,
      idMap: { kind: 'none' },
      attributes: [],
    });
  });

  test('names descriptors by their place in the message', () => {
    const request = parseMountRequest(
      {
        image: { fileDescriptor: 2 },
        storeFileDescriptors: [1],
        idMap: 'userNamespace',
        userNamespaceFileDescriptor: 0,
        attributes: ['noexec', 'noexec', 'ro'],
      },
      fds,
    );
    expect(request.image).toEqual({ kind: 'descriptor', fd: 12, field: 'image.fileDescriptor' });
    expect(request.stores.directories).toEqual([{ fd: 11, field: 'storeFileDescriptors[0]' }]);
    expect(request.idMap).toEqual({ kind: 'userNamespace', fd: 10, field: 'userNamespaceFileDescriptor' });
    expect(request.attributes).toEqual(['noexec', 'ro']);
  });

  test('takes a digest for a name', () => {
    expect(parseVerifyRequest({ image: { name: digest } }, []).image).toEqual({ kind: 'digest', digest });
  });

  test('holds the bytes of signatures', () => {
    const { signatures } = parseVerifyRequest({ image: { name: 'x' }, signatures: ['aGk='] }, []);
    expect(signatures.map((bytes) => Buffer.from(bytes).toString())).toEqual(['hi']);
  });

  const image = { name: 'x' };
  test.each<[string, string, MountParameters]>([
    ['image', 'no image', { image: {} }],
    ['image.name', 'both a descriptor and a name', { image: { fileDescriptor: 0, name: 'x' } }],
    ['image.fileDescriptor', 'a descriptor that did not come', { image: { fileDescriptor: 3 } }],
    ['image.fileDescriptor', 'a negative index', { image: { fileDescriptor: -1 } }],
    ['image.name', 'an empty name', { image: { name: '' } }],
    ['image.name', 'a name that climbs', { image: { name: 'a/../b' } }],
    ['image.name', 'a name with a dot alone', { image: { name: './a' } }],
    ['image.name', 'an absolute name', { image: { name: '/etc/passwd' } }],
    ['image.name', 'a name with a slash at its end', { image: { name: 'a/' } }],
    ['image.name', 'a name with a newline', { image: { name: 'a\n' } }],
    ['image.name', 'a colon in a path', { image: { name: 'a:b' } }],
    ['image.name', 'a long name', { image: { name: 'a'.repeat(256) } }],
    ['image.name', 'half a digest', { image: { name: digest.slice(0, -1) } }],
    ['fileSystem', 'an unknown filesystem', { image, fileSystem: 'vfat' }],
    ['digest', 'a digest of another kind', { image, digest: 'sha512:00' }],
    ['digest', 'a digest in capitals', { image, digest: digest.toUpperCase() }],
    ['signatures[1]', 'a signature that is not base64', { image, signatures: ['aGk=', 'a'] }],
    ['signatures[0]', 'base64 that is not canonical', { image, signatures: ['aGl='] }],
    [
      'signatures',
      'too many signatures',
      { image, signatures: Array<string>(limits.signatures + 1).fill('') },
    ],
    ['signatures[0]', 'a signature file that is too long', { image, signatures: ['A'.repeat(90_000)] }],
    ['stores[1]', 'a name that would fill the log', { image, stores: ['a', 'a'.repeat(256)] }],
    ['stores', 'a store twice', { image, stores: ['a', 'a'] }],
    ['stores', 'too many stores', { image, stores: Array.from({ length: 17 }, (_, i) => `s${i}`) }],
    ['storeFileDescriptors[1]', 'one descriptor twice', { image, storeFileDescriptors: [0, 0] }],
    [
      'storeFileDescriptors[0]',
      'the image as a store',
      { image: { fileDescriptor: 1 }, storeFileDescriptors: [1] },
    ],
    ['userNamespaceFileDescriptor', 'no namespace', { image, idMap: 'userNamespace' }],
    ['userNamespaceFileDescriptor', 'a namespace unasked', { image, userNamespaceFileDescriptor: 0 }],
    ['attributes[1]', 'an unknown attribute', { image, attributes: ['ro', 'rw'] }],
  ])('is refused in %s for %s', (field, _what, parameters) => {
    expect(faultOf(parameters)).toBe(field);
  });
});
