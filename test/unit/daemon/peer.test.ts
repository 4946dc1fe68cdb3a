import { describe, expect, test } from 'vitest';
import { containerRoot } from '../../../src/daemon/callers/owner.ts';
import { callerOf, ownerOf, type KernelView } from '../../../src/daemon/callers/peer.ts';
import { parseSubordinates, Subordinates } from '../../../src/daemon/callers/subordinates.ts';

const plain: KernelView = {
  uid: 1000,
  gids: [1000, 27],
  initial: true,
  creatorUid: undefined,
  sysAdmin: false,
};
const root: KernelView = { ...plain, uid: 0, gids: [0], sysAdmin: true };

describe('who counts as the caller', () => {
  test('a process of the initial namespace is its own user', () => {
    expect(callerOf(plain)).toEqual({ uid: 1000, root: false, gids: [1000, 27] });
  });

  test('root is user 0 of the initial namespace with CAP_SYS_ADMIN', () => {
    expect(callerOf(root)).toEqual({ uid: 0, root: true, gids: [0] });
  });

  test('user 0 without CAP_SYS_ADMIN is not root', () => {
    expect(callerOf({ ...root, sysAdmin: false })).toMatchObject({ uid: 0, root: false });
  });

  test('CAP_SYS_ADMIN makes no other user root', () => {
    expect(callerOf({ ...plain, sysAdmin: true })).toMatchObject({ uid: 1000, root: false });
  });

  test('a subordinate ID in a user namespace counts as the user who created it', () => {
    const view = { ...plain, uid: 100_032, initial: false, creatorUid: 1000 };
    expect(callerOf(view)).toMatchObject({ uid: 1000, root: false });
  });

  test('in a namespace that root created it counts as the ID that the kernel reports', () => {
    const view = { ...plain, uid: 100_032, initial: false, creatorUid: 0 };
    expect(callerOf(view)).toMatchObject({ uid: 100_032, root: false });
  });

  test('user 0 of the host inside a user namespace is not root', () => {
    expect(callerOf({ ...root, initial: false, creatorUid: 0 })).toMatchObject({ uid: 0, root: false });
    expect(callerOf({ ...root, initial: false, creatorUid: 1000 })).toMatchObject({ uid: 1000, root: false });
  });

  test('a namespace whose creator is out of sight leaves what the kernel reports', () => {
    expect(callerOf({ ...plain, uid: 65_534, initial: false })).toMatchObject({ uid: 65_534, root: false });
  });
});

describe('whose share of the limits a caller takes', () => {
  const none = { outermost: undefined, container: undefined };
  const subordinates = new Subordinates({ subordinates: '/dev/null', users: '/dev/null' });

  test('a user has one, in containers of their own too', () => {
    const owner = { user: 1000, group: 'user 1000', root: false };
    expect(ownerOf(plain, none, subordinates)).toEqual(owner);
    const inside = { ...plain, uid: 100_032, initial: false, creatorUid: 1000 };
    expect(ownerOf(inside, { ...none, outermost: 7n }, subordinates)).toEqual(owner);
  });

  test('all users of a container that root made are one group', () => {
    const inside = { ...plain, uid: 100_032, initial: false, creatorUid: 0 };
    const owner = { user: 100_032, group: 'container 7', root: false };
    expect(ownerOf(inside, { ...none, outermost: 7n }, subordinates)).toEqual(owner);
    expect(ownerOf(plain, { ...none, container: 9n }, subordinates)).toEqual({
      user: 1000,
      group: 'container 9',
      root: false,
    });
  });

  test('a user namespace made by a user of a container adds no group', () => {
    const inside = { ...plain, uid: 1000, initial: false, creatorUid: 1000 };
    expect(ownerOf(inside, { outermost: 8n, container: 9n }, subordinates).group).toBe('container 9');
  });

  test('user 0 of a container has nothing of root’s', () => {
    const owner = { user: containerRoot, group: 'container 9', root: false };
    expect(ownerOf({ ...root, sysAdmin: false }, { ...none, container: 9n }, subordinates)).toEqual(owner);
    expect(ownerOf(root, none, subordinates)).toEqual({ user: 0, group: 'user 0', root: true });
  });
});

test('the ranges of /etc/subuid, by name and by ID', () => {
  const users = 'root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n';
  const text = 'anna:100000:65536\n1001:200000:2\nroot:300000:65536\nnobody-here:1:1\nanna:x:1\n\n';
  expect(parseSubordinates(text, users)).toEqual([
    { first: 100_000, last: 165_535, owner: 1000 },
    { first: 200_000, last: 200_001, owner: 1001 },
  ]);
});
