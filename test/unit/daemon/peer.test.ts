import { describe, expect, test } from 'vitest';
import { callerOf, type KernelView } from '../../../src/daemon/peer.ts';

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
