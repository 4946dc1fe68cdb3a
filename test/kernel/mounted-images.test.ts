import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { mountedImages } from '../../src/store/mounted-images.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { isRoot, needs } from '../support/needs.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfs-mounted-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Mounts something whose source is `digest` in a mount namespace that only one process is in; answers what ends it. */
async function mountElsewhere(digest: string): Promise<() => Promise<void>> {
  // `cat` ends when its input does, and the namespace with it.
  const script = `mount -t tmpfs ${digest} ${folder} && echo mounted && cat`;
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script]);
  await once(child.stdout, 'data');
  return async () => {
    child.stdin.end();
    await once(child, 'close');
  };
}

describe.skipIf(needs('kernel', isRoot, 'only root can mount'))('a mount in another namespace', () => {
  test('is seen while it is there', async () => {
    const digest = verityDigest(Buffer.from(`${folder} in a namespace`));
    expect(mountedImages()).not.toContain(digest);
    const end = await mountElsewhere(digest);
    try {
      expect(mountedImages()).toContain(digest);
    } finally {
      await end();
    }
    expect(mountedImages()).not.toContain(digest);
  });
});
