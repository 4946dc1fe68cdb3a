import { expect, test } from 'vitest';
import { modeFault, rootOwnedFault } from '../../../src/daemon/threads/root-owned.ts';

test.each([
  [0, 0o755, false, undefined],
  [0, 0o644, false, undefined],
  [0n, 0o100644n, false, undefined],
  [1000, 0o755, false, /belongs to user 1000/],
  [0, 0o775, false, /written by others than root \(mode 775\)/],
  [0, 0o757, true, /written by others/],
  // As /tmp: nobody but root can replace what is root's in there.
  [0, 0o1777, true, undefined],
  [0, 0o1777, false, /written by others/],
])('owner %s, mode %s, above %s', (uid, mode, above, fault) => {
  const found = modeFault('/path', { uid, mode }, above);
  if (fault === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(fault);
});

test("the system's own folders are root's", () => {
  expect(rootOwnedFault('/usr/bin')).toBeUndefined();
  // A link on the way is root's, and so is what it leads to.
  expect(rootOwnedFault('/proc/self')).toBe(rootOwnedFault(`/proc/${process.pid}`));
  expect(() => rootOwnedFault('/usr/does/not/exist')).toThrow('ENOENT');
});
