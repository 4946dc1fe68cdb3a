import { describe, expect, test } from 'vitest';
import { findMountAt, imageOfMount, parseMountinfo } from '../../../src/cli/mount-table.ts';

const digest = `sha256:${'ab'.repeat(32)}`;
const text = [
  '29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw',
  `40 29 0:30 / /mnt/a\\040b\\134 ro,nosuid master:2 propagate_from:1 - overlay ${digest} ro`,
  `41 29 0:31 /usr /mnt/c ro - erofs ${digest} ro`,
  `42 29 0:32 / /mnt/d ro - tmpfs ${digest} ro`,
  '43 29 0:33 / /mnt/e ro - overlay overlay rw',
  '44 cut',
  '',
].join('\n');

describe('the table of mounts', () => {
  test('a line has optional fields, and escapes', () => {
    expect(parseMountinfo(text)[1]).toEqual({
      id: 40,
      root: '/',
      mountPoint: '/mnt/a b\\',
      fileSystem: 'overlay',
      source: digest,
    });
  });

  test('only whole images are ours', () => {
    expect(parseMountinfo(text).map(imageOfMount)).toEqual([
      undefined,
      digest,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('what is mounted at a directory, and only just there', () => {
    expect(findMountAt('/proc')).toMatchObject({ mountPoint: '/proc', fileSystem: 'proc' });
    expect(findMountAt('/proc/self')).toBeUndefined();
    expect(() => findMountAt('/proc/none')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});
