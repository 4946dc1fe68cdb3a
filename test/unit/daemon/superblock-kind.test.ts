import { expect, test } from 'vitest';
import { digestFromBytes } from '../../../src/base/digest.ts';
import type { MountOrder } from '../../../src/daemon/mounts/mount-order.ts';
import { keepable } from '../../../src/daemon/mounts/superblock-kind.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';

const nothing = new OwnedFd(-1, () => undefined);
const digest = digestFromBytes(new Uint8Array(32));
const installed = { identity: '8:42:1700000000:4096', location: '/usr/lib/cfs-images/app.cfs' };
const store = { fd: -1, trusted: true, identity: '8:2', path: '/store' };
const noDirectories = { names: undefined, directories: [], [Symbol.dispose]: () => undefined };

function order(
  image: Partial<MountOrder['image']>,
  more: Partial<Omit<MountOrder, 'image' | 'constraints'>> = {},
  constraints: Partial<MountOrder['constraints']> = {},
): MountOrder {
  return {
    image: {
      digest,
      kind: 'installed',
      installed,
      fd: -1,
      copy: undefined,
      admit: () => undefined,
      signatureFiles: [],
      scan: () => {
        throw new Error('nobody is to read it');
      },
      contents: () => {
        throw new Error('nobody is to read it');
      },
      disk: () => {
        throw new Error('nobody is to read it');
      },
      [Symbol.dispose]: () => undefined,
      ...image,
    },
    constraints: {
      fileSystem: 'composefs',
      attributes: ['ro'],
      verity: 'ifPresent',
      stores: [],
      clientStores: false,
      rootHashOnly: false,
      devices: false,
      share: 'user',
      rollback: undefined,
      ...constraints,
    },
    stores: noDirectories,
    idMap: { kind: 'none' },
    peer: {
      user: 1000,
      caller: { uid: 1000, root: false },
      initialNamespace: true,
      pid: 1,
      pidfd: nothing,
      userNamespace: nothing,
    },
    ...more,
  };
}

const keyOf = (asked: MountOrder, layers = [store]): string | undefined =>
  keepable(asked, 'composefs', layers)?.top.key;

test('what a client can hold up or unmount is not kept: files with fs-verity, and directories', () => {
  expect(keepable(order({ kind: 'verity', installed: undefined }), 'erofs', [])).toBeUndefined();
  const directories = [{ fd: 3, field: 'storeFileDescriptors[0]', identity: '8:3' }];
  const stores = { ...noDirectories, directories };
  expect(keepable(order({}, { stores }), 'composefs', [store])).toBeUndefined();
});

test('a copy of a memfd is its user’s alone, and shares no layer', () => {
  const everyone = { share: 'everyone' } as const;
  const kept = keepable(order({ kind: 'memfd', installed: undefined }, {}, everyone), 'composefs', [store]);
  expect(kept).toMatchObject({ top: { user: 1000 }, layer: undefined });
});

test('an installed image stands on its file and its stores', () => {
  const kept = keepable(order({}), 'composefs', [store]);
  const image = { path: installed.location, identity: '8:42' };
  expect(kept?.top).toMatchObject({ user: 1000, pins: [{ path: '/store', identity: '8:2' }, image] });
  expect(kept?.layer).toMatchObject({ user: undefined, pins: [image] });
  expect(keepable(order({}, {}, { share: 'everyone' }), 'composefs', [store])?.top.user).toBeUndefined();
});

test('all that a superblock depends on makes another key', () => {
  const other = { ...installed, identity: '8:42:1800000000:4096' };
  const contained = { ...order({}).peer, user: 0, caller: { uid: 0, root: false } };
  const keys = [
    keyOf(order({})),
    keyOf(order({ digest: digestFromBytes(new Uint8Array(32).fill(1)) })),
    keyOf(order({ installed: other })),
    keyOf(order({ kind: 'memfd', installed: undefined })),
    keyOf(order({}, { peer: { ...contained, user: 2000 } })),
    keyOf(order({}, { peer: contained })),
    keyOf(order({}, { peer: { ...contained, caller: { uid: 0, root: true } } })),
    // Users of one number in two containers, and outside of both.
    keyOf(order({}, { peer: { ...order({}).peer, group: 'container 1' } })),
    keyOf(order({}, { peer: { ...order({}).peer, group: 'container 2' } })),
    keyOf(order({}, {}, { share: 'everyone' })),
    keyOf(order({}, {}, { verity: 'never' })),
    keyOf(order({}), [{ ...store, identity: '8:3' }]),
    keyOf(order({}), [{ ...store, trusted: false }]),
    keyOf(order({}), [store, { ...store, identity: '8:3' }]),
    keyOf(order({}), [{ ...store, identity: '8:3' }, store]),
    keyOf(order({}), []),
    keepable(order({}), 'erofs', [])?.top.key,
  ];
  expect(keys).not.toContain(undefined);
  expect(new Set(keys).size).toBe(keys.length);
  // Attributes are those of each mount, not of the superblock.
  expect(keyOf(order({}, {}, { attributes: ['ro', 'noexec'] }))).toBe(keys[0]);
});
