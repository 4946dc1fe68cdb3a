import { describe, expect, test } from 'vitest';
import { checkOptions } from '../../../src/client/options.ts';

const image = { path: 'a.cfs' };

describe('options from programs without types', () => {
  test('what is well-formed passes', () => {
    checkOptions('mount', {
      image: { fd: 3 },
      fileSystem: 'erofs',
      digest: `sha256:${'0'.repeat(64)}`,
      signatures: ['a.sig', new Uint8Array(3)],
      allowUnsigned: true,
      stores: [{ name: 'system' }, { path: '/store' }, { fd: 4 }],
      verity: 'require',
      idMap: { userNamespaceFd: 5 },
      attributes: ['noexec'],
    });
    checkOptions('mount', { image, idMap: 'caller', signatures: undefined });
    checkOptions('verify', { image: { name: 'a/b' } });
  });

  test.each<[unknown, string]>([
    [undefined, 'mount: options must be an object such as { image: { path } }'],
    ['a.cfs', 'mount: options must be an object such as { image: { path } }'],
    [{}, 'mount: image must be { path }, { fd } or { name }'],
    [{ image: 'a.cfs' }, 'mount: image must be { path }, { fd } or { name }'],
    [{ image: { path: 'a', name: 'b' } }, 'mount: image must be { path }, { fd } or { name }'],
    [{ image: { constructor: 'a' } }, 'mount: image must be { path }, { fd } or { name }'],
    [{ image: { path: '' } }, 'mount: image.path must be a text that is not empty'],
    [{ image: { fd: '3' } }, 'mount: image.fd must be the number of an open descriptor'],
    [{ image: { fd: -1 } }, 'mount: image.fd must be the number of an open descriptor'],
    [{ image, stores: '/store' }, 'mount: stores must be an array'],
    [{ image, stores: ['/store'] }, 'mount: stores[0] must be { name }, { path } or { fd }'],
    [
      { image, signatures: ['a.sig', 3] },
      'mount: signatures[1] must be the path of a signature file, or its bytes (Uint8Array)',
    ],
    [{ image, allowUnsigned: 'yes' }, 'mount: allowUnsigned must be true or false'],
    [{ image, idMap: 'auto' }, "mount: idMap must be 'none', 'caller' or { userNamespaceFd }"],
    [{ image, attributes: [1] }, 'mount: attributes[0] must be a text that is not empty'],
  ])('%j', (options, message) => {
    expect(() => {
      checkOptions('mount', options);
    }).toThrow(new TypeError(message));
  });

  test('an option that does not exist is named, with those that do', () => {
    expect(() => {
      checkOptions('verify', { image, idMap: 'none' });
    }).toThrow(/^verify: unknown option "idMap"; there are image, fileSystem, digest, /);
    expect(() => {
      checkOptions('mount', { image, filesystem: 'erofs' });
    }).toThrow(/^mount: unknown option "filesystem"; there are image, fileSystem, /);
  });
});
